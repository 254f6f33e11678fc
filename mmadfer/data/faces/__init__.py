"""Faces: found in pictures, followed through a clip, cut out."""
