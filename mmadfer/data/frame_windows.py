"""Windows of a clip, counted in its frames: which there are, which one training looks at, and which frames it holds.

A window spans S = (T - 1) * stride + 1 frames of a clip of n, and may start at any of K = max(1, n - S + 1). A clip of
fewer frames is one window: all of it, where the last frame stands for those that are missing, in training and tests.
"""

import numpy as np

from mmadfer.config.schema import Config
from mmadfer.data.draws import DrawKey, uniform
from mmadfer.data.fold_clips import used_clips
from mmadfer.data.store.store import Store
from mmadfer.errors import ConfigError

_LAST_FRAMES = 3
"""Filter-bank frames that a sound cut at a second lacks behind it, since each frame spans 25 ms."""

Window = tuple[int, int]
"""The first frame, from 0, and how many."""


def positions(n: int, span: int) -> int:
    """K: how many windows a clip of `n` frames has, one for each frame that one may start at."""
    return max(1, n - span + 1)


def window_at(start: int, n: int, span: int) -> Window:
    """The window of a clip of `n` frames that starts at a frame."""
    return start, min(span, n)


def covering_windows(n: int, span: int, hop: int) -> list[Window]:
    """The windows of a test: one every `hop` frames from the first on, and one that ends with the clip."""
    last = positions(n, span) - 1
    return [window_at(start, n, span) for start in [*range(0, last, hop), last]]


def spaced_windows(n: int, span: int, count: int) -> list[Window]:
    """So many windows, evenly spaced from the clip's start to its end; a single one is in its middle."""
    last = positions(n, span) - 1
    starts = [last / 2] if count == 1 else np.linspace(0, last, count).tolist()
    return [window_at(int(start), n, span) for start in starts]


def drawn_window(seed: int, epoch: int, clip_id: str, n: int, span: int, key: DrawKey = ()) -> Window:
    """A window of a clip in a training epoch, each as likely as the others; arguments as of `draws.draw_view`."""
    (draw,) = uniform(1, seed, epoch, clip_id, "window", *key)
    return window_at(int(draw * positions(n, span)), n, span)


def window_indexes(window: Window, frames: int, stride: int) -> np.ndarray:
    """Its frames in the clip, int64 (frames,): every `stride`-th, and the last one again where it has no more."""
    first, count = window
    return first + np.minimum(stride * np.arange(frames), count - 1)


def check_windows(config: Config, store: Store) -> None:
    """Refuse `data.window` where no clip has a whole window, or where the store ends before a clip's sound does.

    Raises:
        ConfigError: says the numbers, and what to set.
        DataError: the store has no such split.
    """
    if config.data.window is None:
        return
    if store.prepare.mafw_frame_order == "published":
        raise ConfigError(
            f"{store.path} was prepared with prepare.mafw_frame_order published, so its frames are not in the order of "
            "time: data.window needs a store prepared with time"
        )
    clips, span = used_clips(config, store), config.data.window.span(config.model.frames)
    longest = max((clip.frames for clip in clips), default=0)
    if longest < span:
        raise ConfigError(
            f"data.window: {config.model.frames} frames (model.frames) at a stride of {config.data.window.stride} span "
            f"{span} frames, and the longest clip of {store.path} has {longest}: set a smaller data.window.stride or "
            "model.frames. Of a shorter clip the last frame is repeated, but some clip must hold a whole window"
        )
    sound = store.prepare.sound
    held = max(sound.frames, int(sound.max_seconds * 100)) - _LAST_FRAMES
    cut = [clip.id for clip in clips if clip.sound_frames >= held]
    if cut and config.data.modalities != "vision" and "audio" in config.model.modalities:
        raise ConfigError(
            f"the sound of {len(cut)} clips of {store.path} ({cut[0]}) was cut at prepare.sound.max_seconds "
            f"({sound.max_seconds:g} s), so windows behind it would hear nothing: prepare the data again with a larger "
            "one (--set prepare.sound.max_seconds=SECONDS)"
        )
