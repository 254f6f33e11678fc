"""A Triton model repository of an ONNX file or an engine.

`python export/to_triton.py --help`: the same as `mmadfer export triton`.
"""

import sys

from mmadfer.cli.main import app, run

if __name__ == "__main__":
    sys.exit(run(app, ["export", "triton", *sys.argv[1:]]))
