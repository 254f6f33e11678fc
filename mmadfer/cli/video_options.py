"""Options of the commands that read videos with a model."""

from pathlib import Path
from typing import Annotated

import typer

Window = Annotated[float | None, typer.Option(help="Cut videos into windows of so many seconds.")]
Hop = Annotated[float | None, typer.Option(help="Seconds between the starts of two windows (default: --window).")]
Sound = Annotated[
    Path | None, typer.Option(help="The clip's sound, or a folder with a file of its name for each clip.")
]
Cropped = Annotated[bool, typer.Option("--cropped", help="The frames show nothing but the face.")]
Verify = Annotated[
    Path | None,
    typer.Option(help="Check the model's signature first, by this public key or these certificates (PEM)."),
]
