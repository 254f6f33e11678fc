"""Exported models against PyTorch on real clips, from file to label.

`python export/parity.py --help`: the same as `mmadfer export parity`.
"""

import sys

from mmadfer.cli.main import app, run

if __name__ == "__main__":
    sys.exit(run(app, ["export", "parity", *sys.argv[1:]]))
