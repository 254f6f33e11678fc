"""A trained model as one ONNX graph.

`python export/to_onnx.py --help`: the same as `mmadfer export onnx`.
"""

import sys

from mmadfer.cli.main import app, run

if __name__ == "__main__":
    sys.exit(run(app, ["export", "onnx", *sys.argv[1:]]))
