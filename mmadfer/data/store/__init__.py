"""The store: one file with every prepared clip of a data set, and what its index says."""
