"""The network: encoders, prompts, fusion, temporal transformer, and the checkpoints of others."""
