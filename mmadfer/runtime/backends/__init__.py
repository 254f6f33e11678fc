"""What computes logits: PyTorch, ONNX Runtime, TensorRT."""
