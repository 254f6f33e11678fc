"""Export: one graph with its whole contract inside, delivered only when parity holds."""
