"""A TensorRT engine of an ONNX file or a checkpoint.

`python export/to_trt.py --help`: the same as `mmadfer export engine`.
"""

import sys

from mmadfer.cli.main import app, run

if __name__ == "__main__":
    sys.exit(run(app, ["export", "engine", *sys.argv[1:]]))
