"""From the clips of a fold to scores, and from scores to comparisons."""
