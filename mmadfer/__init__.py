"""Audio-visual emotion recognition with MMA-DFER, from a data set to an engine in a product.

The public names are loaded when they are first used, so that `import mmadfer` is quick.
"""

import os
from typing import TYPE_CHECKING, Any

from mmadfer.version import VERSION

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # or ONNX Runtime reports its use from the moment it is imported

__version__ = VERSION
__all__ = ["Recogniser", "load"]

if TYPE_CHECKING:
    from mmadfer.model.weights.load import load
    from mmadfer.runtime import Recogniser

_HOMES = {"load": "mmadfer.model.weights.load", "Recogniser": "mmadfer.runtime"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mmadfer' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
