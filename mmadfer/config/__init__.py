"""Configurations: the schema of a run, of the model and of a sweep, read from YAML and checked."""
