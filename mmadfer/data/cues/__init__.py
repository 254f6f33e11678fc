"""Cues of a clip that are put into words: what they are, how they are measured, and the sentence of a clip."""
