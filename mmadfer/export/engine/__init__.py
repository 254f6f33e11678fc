"""TensorRT engines, built from ONNX graphs; what their sidecar holds is in `mmadfer.runtime.backends.engines`."""
