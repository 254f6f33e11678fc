"""TensorRT engines and the sidecar that describes them."""
