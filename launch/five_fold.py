"""Train five folds on SLURM or on this machine, and report on them.

`python launch/five_fold.py --help`: the same as `mmadfer launch`.
"""

import sys

from mmadfer.cli.main import app, run

if __name__ == "__main__":
    sys.exit(run(app, ["launch", *sys.argv[1:]]))
