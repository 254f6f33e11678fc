"""One .safetensors file with encoders, trained weights and contract.

`python export/to_weights.py --help`: the same as `mmadfer export weights`.
"""

import sys

from mmadfer.cli.main import app, run

if __name__ == "__main__":
    sys.exit(run(app, ["export", "weights", *sys.argv[1:]]))
