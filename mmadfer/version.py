"""The version of this package, which runs, checkpoints and exported models carry."""

VERSION = "0.1.0"
