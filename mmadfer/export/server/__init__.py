"""Model repositories for Triton, and their client."""
