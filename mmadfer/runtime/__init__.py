"""A trained model at work: a video file in, a prediction out, with the same answer on every backend.

Nothing here imports DeepSpeed, DALI or submitit; an ONNX model also needs neither timm nor the model's code.
"""

from mmadfer.runtime.recogniser import Failure, Prediction, Recogniser

__all__ = ["Failure", "Prediction", "Recogniser"]
