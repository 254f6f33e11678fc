"""A clip that was read, or its record in a store, as the arrays that every backend is fed with.

A model that was trained on windows (`data.window`) is fed with windows, cut out of a clip as out of a store's record.

Shapes: B clips, T frames, S image side, K windows.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from mmadfer.contract import Contract
from mmadfer.data.clip import ClipData, Keep
from mmadfer.data.draws import test_indexes
from mmadfer.data.frame_windows import Window, spaced_windows, window_indexes
from mmadfer.data.media.fbank import SILENCE
from mmadfer.data.media.image import decode_jpeg, resize
from mmadfer.data.store.record import LATER, Clip, ClipRecord
from mmadfer.data.window_sound import window_sound
from mmadfer.errors import DataError
from mmadfer.runtime.backends import ports

Inputs = tuple[np.ndarray, ...]
"""Of one clip, as `ports.inputs` has them: frames uint8 (1, T, 3, S, S), and fbank float32 (1, 1, frames, mels) or, for
a model that hears samples, waveform float32 (1, samples) and lengths int64 (1,). One modality has its own alone. Last
come tokens int64 (1, L) of a model that reads a sentence."""
WindowsOf = Callable[[int], Sequence[Window]]
"""Of a clip's number of frames, its windows."""


def from_clip(clip: ClipData, contract: Contract) -> Inputs:
    """What a backend with this contract is fed with for a clip that was read with `keep=seen_frames(contract)`.

    The crops pass through JPEG as in preparation, so that a file gives the very arrays that its record in a
    store gives, and parity can tell that both ways are one.
    """
    # Without it, bytes differ by 0.7 on average (10 at most) and logits by up to 1e-4 where clips differ by 1e-2
    # (ViT-B, 160 px, 8 clips): no label changes, but no equality is left to check. It takes 10 to 25 ms beside 300 to
    # 800 ms for decoding and faces. What remains is DALI's resizing in training against Pillow's here, as small.
    if contract.window is not None:
        return _row(clip.jpegs, as_record(clip), as_entry(clip), contract)
    if contract.input == "waveform":
        return *_seen(clip.jpegs, contract), *_samples(clip.waveform, contract)
    return from_parts(clip.jpegs, clip.fbank, contract)


def from_record(record: ClipRecord, contract: Contract, clip: Clip | None = None) -> Inputs:
    """The same for a clip in a store; `clip` is what its index says, which windows need.

    Raises:
        DataError: the model hears samples, which a store does not keep.
    """
    if contract.input == "waveform":
        raise DataError("a store keeps filter banks, but this model hears samples: predict the media files instead")
    chosen = seen_frames(contract)(len(record.jpegs))
    jpegs = [record.jpegs[i] for i in chosen]
    if contract.window is not None:
        assert clip is not None
        return _row(jpegs, record, clip, contract)
    return from_parts(jpegs, record.fbank, contract)


def from_parts(jpegs: Sequence[bytes], fbank: np.ndarray, contract: Contract) -> Inputs:
    """What a backend is fed with for these T frames and this filter bank (frames, mels), a clip's or a window's."""
    return *_seen(jpegs, contract), *_bands(fbank, contract)


def empty_clip(contract: Contract) -> Inputs:
    """A clip of black frames and silence, with a sentence of one word, over and over."""
    arrays = [np.zeros((1, *shape), kind) for kind, shape in ports.inputs(contract).values()]
    if contract.model.text is not None:
        arrays[-1] += contract.model.text.pad + 1  # of padding alone nothing could be said
    return tuple(arrays)


def seen_frames(contract: Contract, clips: int = 1) -> Keep:
    """The frames of a clip that the model sees, for `read_clip`'s `keep`: no other is cut out and encoded."""
    if contract.window is not None:
        return window_frames(contract)
    return lambda count: test_indexes(count, contract.model.frames, clips).ravel().tolist()


def window_frames(contract: Contract, windows: WindowsOf | None = None) -> Keep:
    """The frames of windows, one window after the other."""
    assert contract.window is not None
    chosen, frames, stride = windows or partial(_together, contract), contract.model.frames, contract.window.stride
    return lambda n: np.concatenate([window_indexes(one, frames, stride) for one in chosen(n)]).tolist()


def _together(contract: Contract, n: int) -> list[Window]:
    """The windows of a clip of n frames that are one row of a model: K of them, or the one in its middle."""
    assert contract.window is not None
    return spaced_windows(n, contract.window.span(contract.model.frames), contract.pooled_windows or 1)


def _row(jpegs: Sequence[bytes], record: ClipRecord, clip: Clip, contract: Contract) -> Inputs:
    """The windows that are one row of a model, with the frames of all in `jpegs`."""
    each = [
        from_parts(
            jpegs[k * contract.model.frames :][: contract.model.frames], window_sound(record, clip, window), contract
        )
        for k, window in enumerate(_together(contract, clip.frames))
    ]
    return tuple(np.stack(parts, 1) for parts in zip(*each, strict=True)) if contract.pooled_windows else each[0]


def as_record(clip: ClipData) -> ClipRecord:
    """As preparation would store it, without its frames."""
    return ClipRecord([], clip.fbank, clip.times, {LATER: clip.later} if len(clip.later) else {})


def as_entry(clip: ClipData) -> Clip:
    """What a store's index would say of it, as far as windows need it."""
    sound = {"sound_frames": clip.sound_frames, "sound_start": round(clip.sound_start, 6)}
    return Clip("clip", "", 1, "", len(clip.times), **sound)  # type: ignore[arg-type]


def _seen(jpegs: Sequence[bytes], contract: Contract) -> Inputs:
    if "vision" not in contract.model.modalities:
        return ()
    frames = resize([decode_jpeg(data) for data in jpegs], contract.model.image_size)
    return ((np.zeros_like(frames) if contract.modalities == "audio" else frames)[None],)


def _bands(fbank: np.ndarray, contract: Contract) -> Inputs:
    if "audio" not in contract.model.modalities:
        return ()
    return ((np.full_like(fbank, SILENCE) if contract.modalities == "vision" else fbank)[None, None],)


def _samples(waveform: np.ndarray, contract: Contract) -> tuple[np.ndarray, np.ndarray]:
    heard = waveform[: 0 if contract.modalities == "vision" else contract.samples]
    padded = np.zeros((1, contract.samples), np.float32)
    padded[0, : len(heard)] = heard
    return padded, np.array([len(heard)], np.int64)
