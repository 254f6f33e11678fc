"""Optimizers over groups of weights.

An optimizer is a function (groups, config, fused) -> torch.optim.Optimizer. A fused one must leave weights and its own
state alone where its attribute `found_inf`, a tensor (), is 1; without `fused`, each step is looked at before.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from mmadfer.config.training import GroupConfig, TrainConfig
from mmadfer.errors import ConfigError
from mmadfer.utils import compat

Groups = list[dict[str, Any]]


def adamw(groups: Groups, config: TrainConfig, fused: bool) -> torch.optim.Optimizer:
    """AdamW with torch's own betas and epsilon, as published."""
    made: torch.optim.Optimizer = compat.without_compiler(torch.optim.AdamW)(
        groups, weight_decay=config.weight_decay, **_kind(fused)
    )
    return made


def sgd(groups: Groups, config: TrainConfig, fused: bool) -> torch.optim.Optimizer:
    """Gradient descent with momentum."""
    optimizer: torch.optim.Optimizer = compat.without_compiler(torch.optim.SGD)(
        groups, momentum=config.momentum, weight_decay=config.weight_decay, **_kind(fused)
    )
    if fused and config.momentum and config.zero_stage == 0:  # torch leaves them unset where the first step is skipped
        for weight in (weight for group in groups for weight in group["params"]):
            optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    return optimizer


def grouped(weights: Mapping[str, nn.Parameter], config: TrainConfig) -> Groups:
    """The weights by `train.groups`, those that match none first; each group with its `lr` and `weight_decay`.

    Raises:
        ConfigError: no weight is left for a group.
    """
    matches = [group.match for group in config.groups]
    chosen = {name: next((k for k, match in enumerate(matches) if fnmatchcase(name, match)), -1) for name in weights}
    found = [_settings(None, config)] + [_settings(group, config) for group in config.groups]
    for index, group in enumerate(found, start=-1):
        group["params"] = [weights[name] for name, place in chosen.items() if place == index]
        if index >= 0 and not group["params"]:
            raise ConfigError(
                f"train.groups.{index}.match is {config.groups[index].match!r}, but it is the first match of no weight "
                f"that learns: give a pattern of names such as {', '.join(list(weights)[:3])}"
            )
    return [group for group in found if group["params"]]


def _settings(group: GroupConfig | None, config: TrainConfig) -> dict[str, Any]:
    if group is None:
        return {"lr": config.scaled_lr, "weight_decay": config.weight_decay}
    decay = config.weight_decay if group.weight_decay is None else group.weight_decay
    return {"lr": config.scaled_lr * (group.lr / config.lr), "weight_decay": decay}


def _kind(fused: bool) -> dict[str, Any]:
    """Without `fused`, torch's own choice, as the published program."""
    return {"fused": True} if fused else {}
