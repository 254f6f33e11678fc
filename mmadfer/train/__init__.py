"""Training one fold with DeepSpeed."""
