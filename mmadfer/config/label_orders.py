"""The published orders of class labels: their places are the class numbers of the published weights."""

DFEW = ("happy", "sad", "neutral", "angry", "surprise", "disgust", "fear")
"""Of the numbers 1 to 7 in DFEW's own lists, as its read-me says; the published program's 0 to 6."""
MAFW = (
    *("happiness", "sadness", "neutral", "anger", "surprise", "disgust"),
    *("fear", "contempt", "anxiety", "helplessness", "disappointment"),
)
"""Of the published program's numbers 0 to 10; other projects have other orders."""
C_EXPR = (
    *("Fearfully Surprised", "Happily Surprised", "Sadly Surprised", "Disgustedly Surprised"),
    *("Angrily Surprised", "Sadly Fearful", "Sadly Angry"),
)
"""Of C-EXPR-DB's seven compound expressions, 0 to 6; 7 is `Other`, which may be trained on and is never tested."""
