"""Small data sets of real files in exactly the layouts that the owners of the real ones distribute."""

import io
import wave
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import make_media
import numpy as np
from PIL import Image

SILENCE = np.zeros((1, 1600), np.float32)


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8", newline="")
    return path


def touch(root: Path, *names: str) -> Path:
    """Empty files, where nothing but their names matters."""
    for name in names:
        text(root / name, "")
    return root


def frames(folder: Path, count: int, side: int = 48, first: int = 1) -> Path:
    """A folder with `count` JPEGs of a face, named by number."""
    folder.mkdir(parents=True)
    face = Image.fromarray(make_media.portrait()[40:150, 64:174]).resize((side, side))
    for k in range(count):
        buffer = io.BytesIO()
        face.rotate(k % 7).save(buffer, "JPEG", quality=90)
        (folder / f"{k + first}.jpg").write_bytes(buffer.getvalue())
    return folder


def wav(path: Path, seconds: float = 0.5, rate: int = 16000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes((make_media.tone(seconds, rate)[0] * 32767).astype("<i2").tobytes())
    return path


def flv(path: Path, count: int = 12) -> Path:
    return make_media.write_video(path, make_media.moving_face(count), None, codecs=("flv", "aac"))


def folds(clips: Mapping[str, int], count: int = 5) -> Iterable[tuple[str, int, list[str]]]:
    """(`train` or `test`, fold, clips) of clip -> fold in which it is tested."""
    for fold in range(1, count + 1):
        yield "test", fold, [clip for clip in clips if clips[clip] == fold]
        yield "train", fold, [clip for clip in clips if clips[clip] != fold]


def dfew_lists(root: Path, labels: Mapping[int, int], end: str = "\n") -> Path:
    """DFEW's own lists: clip's number -> label from 1; clips are tested in folds 1 to 5 in turn."""
    fold_of = {str(number): k % 5 + 1 for k, number in enumerate(labels)}
    for part, fold, clips in folds(fold_of):
        lines = ["video_name,label", *(f"{clip},{labels[int(clip)]}" for clip in clips)]
        text(root / f"EmoLabel_DataSplit/{part}(single-labeled)/set_{fold}.csv", end.join(lines) + end)
    return root


def mafw_lists(root: Path, labels: Mapping[str, str], kind: str = "single") -> Path:
    """MAFW's own lists: clip -> label; clips are tested in folds 1 to 5 in turn."""
    fold_of = {clip: k % 5 + 1 for k, clip in enumerate(labels)}
    for part, fold, clips in folds(fold_of):
        lines = [f"{clip}.mp4 {labels[clip]}" for clip in clips]
        text(root / f"Train & Test Set/{kind}/no_caption/set_{fold}/{part}.txt", "\r\n".join(lines))
    return root


def published_lists(
    folder: Path, name: str, clips: Sequence[tuple[str, int, int]], prefix: str, ending: str = ""
) -> Path:
    """The published program's test lists of (clip, count, label from 0), tested in folds 1 to 5 in turn."""
    for fold in range(1, 6):
        lines = [f"{prefix}/{clip} {count} {label}" for clip, count, label in clips[fold - 1 :: 5]]
        text(folder / f"{name}_set_{fold}_test{ending}.txt", "\n".join(lines) + "\n")
    return folder
