"""The ranks of a fold: who they are, where they meet, and that no other training writes into the fold."""
