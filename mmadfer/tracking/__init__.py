"""Experiment trackers beside metrics.jsonl and TensorBoard: W&B, MLflow, or another package's (`train.trackers`).

Each tracker has a thread of its own, so that none can slow a training down; one that fails is left alone from then on.
"""

from mmadfer.tracking.background import Trackers
from mmadfer.tracking.tracker import TrackedRun, Tracker

__all__ = ["TrackedRun", "Tracker", "Trackers"]
