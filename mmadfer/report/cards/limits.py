"""What a model or a data set cannot do, by what is seen in the clips."""

from mmadfer.contract.licences import data_set_facts

_KINDS = {
    "films": (
        "Its faces and voices are of films and series: actors play, cameras and sound are professional, and the labels "
        "are what annotators saw, not what anybody felt."
    ),
    "acted": (
        "Its faces and voices are acted on purpose, in a studio, by a few people who speak given sentences: emotions "
        "are stronger and cleaner than those of daily life."
    ),
    "laboratory": (
        "It was recorded in a laboratory, of people who had agreed to a stimulus, under one light and with one camera."
    ),
    "internet": "Its videos are of the internet: nobody has chosen who is in them, or how they were recorded.",
    "toy": (
        "It is made by a program, of one photographed face and a synthetic voice, to test the pipeline: it says "
        "nothing about real emotions."
    ),
}
_OWN = "How its clips were recorded, and how they were labelled, is not known here: whoever made it should say so."
_TRANSFER = (
    "Transfer is weak: scores on other data sets, languages, cameras and people are usually far lower than on the test "
    "clips of the same set. Measure on your own clips before you rely on a score."
)


def limits_of(data_set: str) -> list[str]:
    """Sentences for a card."""
    facts = data_set_facts(data_set)
    return [_KINDS[facts.kind] if facts else _OWN, _TRANSFER]
