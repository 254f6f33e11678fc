"""Every kind of media file is read as ffmpeg reads it (MMADFER_MATRIX=all: of the larger matrix, too)."""

import os
from pathlib import Path
from typing import Any

import av
import media_check
import media_reference as reference
import media_sources
import needs
import numpy as np
import pytest
from media_kinds import Kind
from media_table import kinds

KINDS = kinds(everything=os.environ.get("MMADFER_MATRIX") == "all")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if reference.version() < reference.OLDEST:
        needs.missing(f"no ffmpeg {'.'.join(map(str, reference.OLDEST))} or newer (sudo make test-packages)")
    folder = tmp_path_factory.mktemp("sources")
    media_sources.make(folder)
    return folder


def _case(kind: Kind) -> Any:
    marks = [pytest.mark.xfail(reason=kind.wrong, strict=True, raises=AssertionError)] if kind.wrong else []
    return pytest.param(kind, id=kind.name, marks=marks)


@pytest.mark.parametrize("kind", [_case(kind) for kind in KINDS])
def test_a_file_is_read_as_ffmpeg_reads_it(kind: Kind, sources: Path, tmp_path: Path) -> None:
    try:
        path = kind.write(sources, tmp_path)
        differences = media_check.differences(kind, path)
    except (RuntimeError, av.error.FFmpegError, ValueError) as error:
        if not kind.may_lack:
            raise
        pytest.skip(f"{kind.name} cannot be made, or not be read by ffmpeg: {str(error).splitlines()[-1]}")
    assert differences == []


def test_what_is_unlike_is_seen() -> None:
    sound = np.stack([media_sources.chirp(0), media_sources.chirp(1)])
    later = np.pad(sound, ((0, 0), (480, 0)))
    assert list(media_check.unlike(sound, sound, 48000)) == []
    assert "+0.0100 s at 0.3 s" in " ".join(media_check.unlike(later, sound, 48000))
    assert list(media_check.unlike(later, sound, 48000, lag=0.02)) == []
    assert list(media_check.unlike(later, sound, 48000, joined=True)) == []
    much = np.pad(sound, ((0, 0), (4800, 0)))[:, : sound.shape[1]]
    assert "+0.1000 s at 0.3 s" in " ".join(media_check.unlike(much, sound, 48000, joined=True))
    assert list(media_check.unlike(sound[::-1], sound, 48000))
    pictures = [media_sources.picture(k) for k in range(media_sources.COUNT)]
    for k, picture in enumerate(pictures):
        assert all(
            media_check.colours(picture, other) > 10 for other in (*pictures[:k], picture[:, ::-1], picture[::-1])
        )
