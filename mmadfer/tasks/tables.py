"""The tasks and losses there are, by name; nothing here imports torch."""

from mmadfer.utils.registry import Registry

LOSSES = Registry("loss", "mmadfer.losses", {"cross_entropy": "mmadfer.tasks.losses:CrossEntropy"})
