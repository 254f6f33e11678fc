"""What a step computes: losses, scores, and the decoding of an output."""
