"""The colours of folds, classes and values in drawings."""

PALETTE = ("#3b82c4", "#e0812b", "#2f9e6e", "#c2557f", "#8a6fd1", "#9a8b25", "#2aa5b8")
"""Each stands out on white and on black."""
