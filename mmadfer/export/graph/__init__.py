"""The ONNX graph of a model, in float32 and in fewer bits."""
