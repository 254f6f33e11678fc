"""Mixup of whole clips, pictures, sound and labels (Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization").

Which clip comes to which, and how much of each is seen, is drawn for each clip and not for the batch, as everything
else is: so a clip's blend does not depend on the batch or the rank that it is in.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from mmadfer.data.draws import uniform
from mmadfer.data.loading.batch import Batch, Mix
from mmadfer.data.loading.samplers import Pick


def paired(seed: int, epoch: int, picks: Sequence[Pick]) -> list[Pick]:
    """An epoch's picks, each with a partner: one of the others, as often as it comes, but never the clip itself.

    Partners come from the epoch's own picks, so that those of a class-balanced epoch are balanced, too.
    """
    ids = sorted(pick.clip for pick in picks)

    def partner(pick: Pick) -> str:
        own, after = bisect_left(ids, pick.clip), bisect_right(ids, pick.clip)
        (drawn,) = uniform(1, seed, epoch, pick.clip, "partner", *pick.key)
        others = max(1, len(ids) - (after - own))  # a clip that is alone is its own partner
        return ids[(after + int(drawn * others)) % len(ids)]

    return [pick._replace(partner=partner(pick)) for pick in picks]


def seconds(picks: Sequence[Pick]) -> list[Pick]:
    """The partners' appearances, in forms of their own; none where nothing is blended."""
    return [Pick(pick.partner, pick.turn, beside=pick.clip) for pick in picks if pick.partner is not None]


def mixed(both: Batch, shares: Sequence[float], classes: Mapping[str, int]) -> Batch:
    """Blend the second half of 2 B clips on the CPU into the first; frames follow on the device.

    Args:
        both: 2 B clips.
        shares: how much of each of the first B is left, in [0, 1].
        classes: how many there are, for each target that is one label.
    """
    n, share = len(shares), torch.tensor(shares, dtype=torch.float32)
    rows = share[:, None]
    targets = {name: _blended(target, rows, classes.get(name, 0)) for name, target in both.targets.items()}
    own, sound = rows[..., None, None].numpy(), both.fbank.numpy()  # torch would start threads for so little
    return replace(
        both,
        frames=both.frames[:n],
        fbank=torch.from_numpy(own * sound[:n] + (1 - own) * sound[n:]),
        targets=targets,
        ids=both.ids[:n],
        brightness=both.brightness[:n],
        drop_path=None if both.drop_path is None else both.drop_path[:n],
        mix=Mix(both.frames[n:], both.brightness[n:], share),
    )


def _blended(target: Tensor, rows: Tensor, classes: int) -> Tensor:
    """A target of 2 B clips, those of the second half blended into the first: labels (int64) become their shares."""
    truth = target if target.is_floating_point() else one_hot(target + 1, classes + 1)[:, 1:]  # -1 is no label: zeros
    share = rows.reshape(-1, *[1] * (truth.ndim - 1))
    return share * truth[: len(rows)] + (1 - share) * truth[len(rows) :]
