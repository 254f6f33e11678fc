"""Many configurations at once, each over all its folds, as one array."""
