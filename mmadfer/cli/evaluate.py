"""`mmadfer evaluate`: a model, two together, or a published one, on one fold of a store."""

from pathlib import Path
from typing import Annotated

import typer

from mmadfer.errors import ConfigError

Clips = Annotated[int, typer.Option(min=1, max=16, help="Index sets averaged per clip.")]
Flips = Annotated[bool, typer.Option("--flips", help="Average each of them with its mirror image.")]
Adjust = Annotated[
    float,
    typer.Option(min=0, help="Tau of logit adjustment: 0 as trained (accuracy), 1 for the mean recall of classes."),
]
Calibrated = Annotated[
    bool, typer.Option("--calibrated", help="Probabilities by the temperature that validation clips told.")
]


def evaluate(
    data: Annotated[Path, typer.Option(help="The prepared store.")],
    path: Annotated[
        Path | None, typer.Argument(help="Run or fold directory, .safetensors, or a published .pth (or --published).")
    ] = None,
    fold: Annotated[
        int | None, typer.Option(min=1, help="Fold of a run directory (default: the first), or of a published .pth.")
    ] = None,
    clips: Clips = 1,
    flips: Flips = False,
    adjust: Adjust = 0.0,
    calibrated: Calibrated = False,
    published: Annotated[
        Path | None, typer.Option(help="In place of PATH: a published .pth, tested as published, beside the paper.")
    ] = None,
    beside: Annotated[
        Path | None, typer.Option(help="Another run: both together, weighted by what validation clips say.")
    ] = None,
    sentences: Annotated[
        Path | None,
        typer.Option(help="What `textualise` wrote, for a model that reads it; else it is beside the store."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Predictions per clip as CSV.")] = None,
) -> None:
    """Test a model on one fold of a store."""
    from mmadfer.utils.files import check_place

    if out is not None:
        check_place(out)
    if published is not None and beside is not None:
        raise ConfigError("--beside puts two runs together, and --published is none: leave one out")
    if published is not None:
        from mmadfer.evaluation.published_folds import print_reproduced, reproduce

        if path or flips or adjust or calibrated:
            raise ConfigError(
                "--published takes no PATH, --flips, --adjust or --calibrated: the published evaluation has none"
            )
        return print_reproduced(reproduce(published, data, fold, clips, out))
    if path is None:
        raise ConfigError("no model: give a run, a .safetensors or a .pth, or --published FOLD.pth")
    from mmadfer.evaluation.evaluate import evaluate_path, print_result

    if beside is not None:
        from mmadfer.evaluation.late_fusion import late_fusion, print_fused

        if flips or adjust or clips > 1 or sentences or calibrated:
            raise ConfigError(
                "--beside takes no --clips, --flips, --adjust, --calibrated or --sentences: leave them out"
            )
        return print_fused(late_fusion(path, beside, data, fold, out))
    found = evaluate_path(path, data, fold, clips, out, flips, adjust, sentences, calibrated)
    return print_result(found, adjust, calibrated)
