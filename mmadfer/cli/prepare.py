"""`mmadfer prepare`: media files into a store."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mmadfer.cli.launch_options import Set
from mmadfer.utils import cores
from mmadfer.utils.terminal import say

_CONFIG_OF = {
    "mafw": "mafw_224",
    "mafw_compound": "mafw_compound_224",
    "crema_d": "crema_d",
    "ravdess": "ravdess",
    "biovid": "biovid",
    "dfew": "dfew_160",
    "affwild2": "jmt_affwild2",
    "toy_flip": "jmt_toy",
    "toy_privileged": "pkdot_toy_teacher",
    "toy_subjects": "msda_toy",
    "toy_subjects_turned": "msda_toy",
    "toy_units": "aus_toy",
    "toy_words": "words_toy",
}
"""Data set -> configuration that it is prepared with by default; one's own clips have own_160."""
_DEFAULTS = f"Default: the set's own, {', '.join(dict.fromkeys(_CONFIG_OF.values()))}; own_160 for all others."


def prepare(
    data_set: Annotated[
        str,
        typer.Argument(
            help="Layout: dfew, mafw, mafw_compound, crema_d, ravdess, biovid, affwild2, meld, folder, csv, toy, "
            "toy_apex, toy_flip, toy_privileged, toy_subjects, toy_subjects_turned, toy_units, toy_words."
        ),
    ],
    root: Annotated[Path, typer.Option(help="The data set's folder, or the CSV file (toy: where it is made).")],
    out: Annotated[Path, typer.Option(help="The store to write.")],
    config: Annotated[str | None, typer.Option(help=f"Configuration with the `prepare` section. {_DEFAULTS}")] = None,
    overrides: Set = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = cores.granted(),
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where faces are looked for.")] = "cpu",
    lists: Annotated[
        Path | None, typer.Option(help="dfew, mafw: folder of the published program's lists (folder count label).")
    ] = None,
    prefix: Annotated[str | None, typer.Option(help="The start of the lists' paths that --root replaces.")] = None,
    preview: Annotated[Path | None, typer.Option(help="Write 50 random clips as one page (.html).")] = None,
) -> None:
    """Turn media files into one checksummed store of faces, sound and folds."""
    from mmadfer.config import schema as configs
    from mmadfer.data import sets
    from mmadfer.data.preparation.prepare import prepare as run
    from mmadfer.data.preparation.prepare import print_summary
    from mmadfer.data.preparation.summary import refuse_traces
    from mmadfer.data.sets.trace_files import check_ranges, ranges_of

    if preview:
        from mmadfer.data.preparation.preview import check_page

        check_page(preview, out)
    config = config or _CONFIG_OF.get(data_set, "own_160")
    settings = configs.load(config, overrides or ())
    say(f"configuration {config}")
    table = sets.table(data_set, root, settings.data.folds, lists, prefix)
    check_ranges(ranges_of(table), table.targets, settings.task.values)
    summary = run(table, out, settings.prepare, jobs, device)
    print_summary(summary)
    if preview:
        from mmadfer.data.preparation.preview import write_preview

        write_preview(out, preview)
    refuse_traces(summary)
