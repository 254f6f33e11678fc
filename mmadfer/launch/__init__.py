"""Launching: five folds, a report and an export as one chain of jobs."""
