"""A trained model at work: a video file in, a prediction out, with the same answer on every backend.

Nothing here imports DeepSpeed, DALI or submitit; an ONNX model or an engine also needs neither torch nor timm.
"""

from mmadfer.runtime.live import LiveFrame, LiveSound, LiveStream
from mmadfer.runtime.recogniser import Failure, Prediction, Recogniser, Video

__all__ = ["Failure", "LiveFrame", "LiveSound", "LiveStream", "Prediction", "Recogniser", "Video"]
