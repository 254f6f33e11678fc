"""Exported models against PyTorch on the same clips, from file to label."""
