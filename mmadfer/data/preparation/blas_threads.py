"""Imported before NumPy: its matrix products have one thread in this process and in those forked from it."""

import os

for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ[name] = "1"
