"""From a data set on disk to a store: workers, summary and contact sheet."""
