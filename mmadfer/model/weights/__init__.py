"""Weights: drawn, read from files of others, saved and loaded."""
