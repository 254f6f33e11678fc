"""Train many configurations, each over all its folds, as one array.

`python launch/sweep.py --help`: the same as `mmadfer launch sweep`.
"""

import sys

from mmadfer.cli.main import app, run

if __name__ == "__main__":
    sys.exit(run(app, ["launch", "sweep", *sys.argv[1:]]))
