"""The T-Net of PKDOT (Aslam et al. 2024): of what a model knows of a clip, what its teacher's other encoder says."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from mmadfer.errors import ConfigError
from mmadfer.tasks.base import Batch, Term
from mmadfer.tasks.distillation import check_pair, of_clips
from mmadfer.tasks.output import Output


class Imitation(Term):
    """Mean squared error of a small network that gives the teacher's summary of a clip's sound, or of its frames.

    Its input are the model's features of the clip (`mmadfer.tasks.distillation`), which the gradient reaches, too. What
    it gives is normalised by the teacher's last LayerNorm, and has both signs: the last layer is linear.

    Raises:
        ConfigError: the teacher lacks the modality, or the model has it; or as for `Distillation`.
    """

    uses_teacher = True

    def __init__(self, settings: Any, model: Any, teacher: Any) -> None:
        super().__init__(settings, model, teacher)
        self.modality = settings.modality
        check_pair(model.config, teacher.config)
        self._check(model.encoders, teacher.encoders)
        self._layer = teacher.config.layers - 1
        self.teacher_layers = frozenset({self._layer})
        self._summary = teacher.encoders[self.modality].summary  # a method: the teacher itself is no part of this
        widths = [model.config.width, *settings.hidden, getattr(teacher.config, self.modality).width]
        layers = [one for pair in pairwise(widths) for one in (nn.Linear(*pair), nn.ReLU())]
        self.net = nn.Sequential(*layers[:-1])

    def forward(self, output: Output, batch: Batch, teacher: Output | None) -> dict[str, Tensor]:
        """`loss` ()."""
        assert teacher is not None
        return {"loss": mse_loss(self.net(of_clips(output)), self._privileged(teacher))}

    @torch.no_grad()
    def _privileged(self, teacher: Output) -> Tensor:
        """(B, D) in float32: of frames, the mean over them."""
        summary: Tensor = self._summary(getattr(teacher.features[self._layer], self.modality).float())
        return summary if summary.ndim == 2 else summary.mean(dim=1)

    def _check(self, own: Any, theirs: Any) -> None:
        if self.modality in own:
            raise ConfigError(
                f"task.t_net.modality is {self.modality}, which the model takes itself: name one that only its teacher "
                "has, or leave task.t_net out"
            )
        if self.modality not in theirs:
            raise ConfigError(
                f"task.t_net.modality is {self.modality}, but the model of stages.teacher takes {', '.join(theirs)}: "
                "name one of these, or give another teacher"
            )
