"""Clips of every kind to crops and sound: folders, frames taken whole, missing sound, limits, published order."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from make_media import FPS, damage, forbidden, grey, moving_face, portrait, tone, video, write_images, write_video
from PIL import Image

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.clip import ClipData, face_jpeg, read_clip
from mmadfer.data.draws import test_indexes as evenly
from mmadfer.data.media import frames
from mmadfer.data.media.container import explained
from mmadfer.data.media.fbank import SILENCE
from mmadfer.data.media.image import decode_jpeg, encode_jpeg, square
from mmadfer.errors import ClipError

SETTINGS = PrepareConfig(face_size=64, detect_every=3, no_sound="silence")
SIDE = 64


def faces(count: int) -> list[np.ndarray]:
    """Frames that show nothing but the face, all different; uint8 (64, 64, 3)."""
    return [square(portrait()[40:140, 70 + k : 170 + k], SIDE) for k in range(count)]


def whole(folder: Path, settings: PrepareConfig = SETTINGS) -> ClipData:
    return read_clip(folder, settings, cropped=True)


def test_jpeg_files_of_the_right_size_keep_their_bytes_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "00001", faces(9), "jpg", quality=88)
    Image.fromarray(faces(12)[9]).save(folder / "9.jpg", progressive=True)
    Image.fromarray(faces(12)[10]).convert("L").save(folder / "10.JPEG")
    Image.fromarray(faces(12)[11]).save(folder / "0011.jpg", "JPEG", subsampling=0)
    (folder / ".DS_Store").write_bytes(b"hidden")
    (folder / "Thumbs.db").write_bytes(b"left by a file manager")
    names = [*(f"{k}.jpg" for k in range(10)), "10.JPEG", "0011.jpg"]
    clip = whole(folder)
    assert clip.jpegs == [(folder / name).read_bytes() for name in names]
    np.testing.assert_allclose(clip.times, np.arange(12) / FPS)
    assert read_clip(folder, SETTINGS, cropped=True, keep=lambda _: [10, 2, 2]).jpegs == [
        (folder / name).read_bytes() for name in ("10.JPEG", "2.jpg", "2.jpg")
    ]


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


ODD = {
    "png": lambda image, path: Image.fromarray(image).save(path, "PNG"),
    "size": lambda image, path: Image.fromarray(square(image, 80)).save(path, "JPEG", quality=100),
    "turned": lambda image, path: Image.fromarray(np.rot90(image)).save(path, "JPEG", quality=100, exif=exif(6)),
    "cmyk": lambda image, path: Image.fromarray(image).convert("CMYK").save(path, "JPEG", quality=100),
    "as rgb": lambda image, path: Image.fromarray(image).save(path, "JPEG", quality=100, keep_rgb=True),
}


@pytest.mark.parametrize("kind", ODD)
def test_other_images_are_turned_upright_resized_and_encoded(tmp_path: Path, kind: str) -> None:
    folder = write_images(tmp_path / "clip", faces(3), "jpg")
    ODD[kind](faces(3)[1], folder / "1.jpg")
    clip = whole(folder)
    assert clip.jpegs[0] != (folder / "0.jpg").read_bytes()  # all frames of a clip are treated alike
    for data, image in zip(clip.jpegs, faces(3), strict=True):
        found = decode_jpeg(data)
        assert found.shape == (SIDE, SIDE, 3)
        assert np.abs(found.astype(float) - image).mean() < 5


def test_an_oblong_video_of_faces_is_taken_whole(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_face(5), tone(0.3))
    clip = whole(path)
    assert len(clip.jpegs) == 5
    found = decode_jpeg(clip.jpegs[0]).astype(float)
    assert np.abs(found - square(portrait(), SIDE)).mean() < 6


def test_a_folder_of_frames_gives_the_crops_of_its_video(tmp_path: Path) -> None:
    frames = moving_face(9, step=2)
    folder = write_images(tmp_path / "frames", frames)
    Image.fromarray(np.rot90(frames[4])).save(folder / "4.png", exif=exif(6))
    Image.fromarray(frames[5]).resize((500, 375)).save(folder / "5.png")
    write_video(tmp_path / "sound.wav.mkv", [], tone(0.8))
    clip = read_clip(folder, SETTINGS, sound=tmp_path / "sound.wav.mkv")
    film = read_clip(write_video(tmp_path / "a.mp4", frames, tone(0.8)), SETTINGS)
    apart = [
        np.abs(decode_jpeg(a).astype(float) - decode_jpeg(b)).mean()
        for a, b in zip(clip.jpegs, film.jpegs, strict=True)
    ]
    assert len(apart) == 9
    assert max(apart) < 16
    np.testing.assert_allclose(clip.fbank, film.fbank, atol=0.05)
    assert (clip.rate, clip.silent, clip.notes) == (44100, False, ())


@pytest.mark.parametrize("face_box", ["track", "union"])
def test_only_the_frames_to_keep_are_encoded_and_are_the_same(tmp_path: Path, face_box: str) -> None:
    settings = SETTINGS.model_copy(update={"face_box": face_box})
    path = video(tmp_path / "a.mp4")
    every, some = read_clip(path, settings), read_clip(path, settings, keep=lambda n: evenly(n, 16)[0].tolist())
    assert some.jpegs == [every.jpegs[k] for k in evenly(25, 16)[0]]
    assert np.array_equal(some.times, every.times)
    assert some.span == every.span == pytest.approx((0, 1), abs=0.05)
    if face_box == "union":
        assert every.boxes is None
        return
    assert every.boxes is not None
    assert np.array_equal(some.boxes, every.boxes)
    pictures = zip(frames.pictures(path, settings), every.boxes, strict=True)
    assert every.jpegs == [face_jpeg(picture.rgb(), box, settings) for picture, box in pictures]


def test_the_published_order_is_that_of_numbers_as_text_without_the_last(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"mafw_frame_order": "published"})
    folder = write_images(tmp_path / "clip", faces(12), "jpg")
    clip = whole(folder, settings)
    order = [0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8]
    assert clip.jpegs == [(folder / f"{k}.jpg").read_bytes() for k in order]
    np.testing.assert_allclose(clip.times, np.array(order) / FPS)
    assert clip.span == pytest.approx((0, 12 / FPS))
    kept = read_clip(folder, settings, cropped=True, keep=lambda n: [n - 1, 2])
    assert kept.jpegs == [(folder / "8.jpg").read_bytes(), (folder / "10.jpg").read_bytes()]
    assert len(whole(write_images(tmp_path / "one", faces(1), "jpg"), settings).jpegs) == 1


def test_the_published_order_of_a_folder_is_that_of_its_names(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"mafw_frame_order": "published"})
    folder = write_images(tmp_path / "clip", faces(12), "jpg")
    for k in reversed(range(12)):
        (folder / f"{k}.jpg").rename(folder / f"{k + 1}.jpg")
    order = [1, 10, 11, 12, 2, 3, 4, 5, 6, 7, 8]
    clip = whole(folder, settings)
    assert clip.jpegs == [(folder / f"{k}.jpg").read_bytes() for k in order]
    np.testing.assert_allclose(clip.times, (np.array(order) - 1) / FPS)
    for k in range(1, 13):
        (folder / f"{k}.jpg").rename(folder / f"{k:05d}.jpg")
    assert whole(folder, settings).jpegs == whole(folder).jpegs[:-1]


def test_the_published_order_of_a_video_counts_from_0(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"mafw_frame_order": "published"})
    film = video(tmp_path / "a.mp4", 0.48)
    order = [0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8]
    every = whole(film).jpegs
    assert whole(film, settings).jpegs == [every[k] for k in order]


def test_the_sound_is_checked_before_the_pictures_are_looked_at(tmp_path: Path) -> None:
    def strange(rate: int) -> None:
        raise ClipError(f"{rate} Hz", "sound rate")

    with pytest.raises(ClipError, match="44100 Hz"):
        read_clip(write_video(tmp_path / "a.mp4", grey(3), tone(0.2)), SETTINGS, heard=strange)


def nothing(tmp_path: Path) -> dict[str, tuple[Path, Path | None]]:
    """Clips without sound: media file and sound file."""
    mute = write_video(tmp_path / "mute.mp4", moving_face(4), None)
    return {
        "no track": (mute, None),
        "a folder": (write_images(tmp_path / "frames", moving_face(4)), None),
        "no file": (video(tmp_path / "a.mp4", 0.2), tmp_path / "gone" / "1.wav"),
        "no track in its file": (video(tmp_path / "b.mp4", 0.2), mute),
    }


def test_missing_sound_is_left_out_or_silence_as_asked(tmp_path: Path) -> None:
    for media, sound in nothing(tmp_path).values():
        with pytest.raises(ClipError, match=(sound or media).name) as caught:
            read_clip(media, SETTINGS.model_copy(update={"no_sound": "leave_out"}), sound=sound)
        assert caught.value.reason == "no sound"
        clip = read_clip(media, SETTINGS, sound=sound)
        assert (clip.fbank == np.float32(SILENCE)).all()
        assert (clip.fbank.shape, clip.fbank.dtype) == ((512, 128), np.float32)
        assert (clip.rate, clip.silent, len(clip.notes)) == (0, True, 1)
        assert "silence in its place" in clip.notes[0]


def test_frames_without_sound_say_how_to_give_it(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "frames", moving_face(2))
    with pytest.raises(
        ClipError,
        match=r"frames is a folder of images, which has no sound: name the file that has it \(predict: --sound\)$",
    ):
        read_clip(folder, SETTINGS.model_copy(update={"no_sound": "leave_out"}))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ClipError, match="empty holds no images"):
        read_clip(tmp_path / "empty", SETTINGS.model_copy(update={"no_sound": "leave_out"}))


def test_damaged_sound_is_never_silence(tmp_path: Path) -> None:
    media = video(tmp_path / "a.mp4", 0.2)
    sound = tmp_path / "a.wav"
    for content in (b"", b"RIFF\x00\x10\x00\x00WAVEno such chunk"):
        sound.write_bytes(content)
        with pytest.raises(ClipError, match=r"a\.wav") as caught:
            read_clip(media, SETTINGS, sound=sound)
        assert caught.value.reason == "unreadable"


def test_silence_on_a_track_is_told_from_a_missing_one(tmp_path: Path) -> None:
    quiet = write_video(tmp_path / "a.mov", moving_face(4), 0 * tone(0.3), codecs=("libx264", "pcm_s16le"))
    clip = read_clip(quiet, SETTINGS)
    assert (clip.silent, clip.rate, clip.notes) == (True, 44100, ())


def told(clip: ClipData) -> tuple[list[str], list[str]]:
    return list(map(str, clip.notes)), list(map(str, clip.faceless))


@pytest.mark.parametrize("face_box", ["track", "union"])
def test_pictures_that_the_decoder_made_up_are_counted(tmp_path: Path, face_box: str) -> None:
    settings = SETTINGS.model_copy(update={"face_box": face_box})
    path = write_video(tmp_path / "a.mkv", moving_face(30), tone(1.2), codecs=("mpeg4", "pcm_s16le"))
    assert told(read_clip(path, settings)) == ([], [])
    damage(path, [4, 5, 20])
    assert told(read_clip(path, settings, keep=lambda _: [0])) == (["3 of 30 pictures damaged"], [])
    assert told(read_clip(path, settings, cropped=True))[0] == ["3 of 30 pictures damaged"]
    with explained():  # as in preparation
        notes, _ = told(read_clip(path, settings))
    assert notes[0] == "3 of 30 pictures damaged"
    assert notes[1].startswith("damaged in places, FFmpeg says")


def test_frames_looked_at_in_vain_are_counted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [*moving_face(6), *grey(15)], tone(0.9))
    assert told(read_clip(path, SETTINGS, keep=lambda _: [0]))[1] == ["the face was found in 2 of 8 frames looked at"]
    union = SETTINGS.model_copy(update={"face_box": "union"})
    assert told(read_clip(path, union, keep=lambda _: [0, 9, 9, 20]))[1] == [
        "no face in 3 of 4 frames, the picture's middle in its place"
    ]


def test_sound_that_is_not_asked_for_is_not_looked_at(tmp_path: Path) -> None:
    mute = read_clip(write_video(tmp_path / "mute.mp4", moving_face(4), None), SETTINGS)
    sound = write_video(tmp_path / "high.mkv", [], tone(0.3, 192_000), rate=192_000, codecs=("mpeg4", "flac"))
    strict = SETTINGS.model_copy(update={"no_sound": "leave_out"})
    with pytest.raises(ClipError, match="192000 Hz"):
        read_clip(tmp_path / "mute.mp4", strict, sound=sound)
    clip = read_clip(tmp_path / "mute.mp4", strict, sound=sound, mute=True)
    assert clip.fbank.tobytes() == mute.fbank.tobytes()
    assert (clip.rate, clip.silent, clip.notes) == (0, True, ())


def test_a_longer_clip_is_named(tmp_path: Path) -> None:
    short = SETTINGS.model_copy(update={"max_seconds": 0.5})
    good = write_images(tmp_path / "good", faces(12), "jpg")
    long = write_video(tmp_path / "long.mkv", [], tone(1.0))
    found = {
        video(tmp_path / "a.mp4"): None,
        write_images(tmp_path / "frames", faces(13), "jpg"): None,
        good: long,
    }
    for media, sound in found.items():
        with pytest.raises(ClipError, match=(sound or media).name) as caught:
            read_clip(media, short, sound=sound, cropped=True)
        assert caught.value.reason == "too long"
    assert len(read_clip(good, short, cropped=True).jpegs) == 12


@pytest.mark.parametrize("cropped", [True, False])
def test_a_folder_has_as_many_frames_in_a_second_as_is_said(tmp_path: Path, cropped: bool) -> None:
    folder = write_images(tmp_path / "frames", moving_face(12), "jpg")
    for fps in (25.0, 12.5, 30000 / 1001):
        clip = read_clip(folder, SETTINGS.model_copy(update={"fps": fps}), cropped=cropped)
        np.testing.assert_allclose(clip.times, np.arange(12) / fps)
        assert clip.jpegs == read_clip(folder, SETTINGS, cropped=cropped).jpegs
    short = SETTINGS.model_copy(update={"max_seconds": 0.9, "fps": 12.5})
    with pytest.raises(ClipError, match=r"12 images, more than 0\.9 s at 12\.5 per second"):
        read_clip(folder, short)
    film = video(tmp_path / "a.mp4")
    np.testing.assert_allclose(read_clip(film, short.model_copy(update={"max_seconds": 9})).times, np.arange(25) / FPS)


def test_sound_and_pictures_of_other_lengths_are_told_of(tmp_path: Path) -> None:
    def lengths(media: Path, sound: Path | None = None, **changed: float) -> list[str]:
        return list(map(str, read_clip(media, SETTINGS.model_copy(update=changed), sound=sound, cropped=True).notes))

    folder = write_images(tmp_path / "frames", faces(30), "jpg")  # 1.2 s
    sound = write_video(tmp_path / "2.mkv", [], tone(2.0), codecs=("mpeg4", "flac"))
    assert lengths(folder, sound) == [
        "the sound has 2.0 s, the pictures have 1.2 s at 25 per second (another rate: --fps, or prepare.fps)"
    ]
    assert lengths(folder, sound, fps=15.0) == []
    film = write_video(tmp_path / "a.mkv", moving_face(50), tone(1.0), codecs=("mpeg4", "flac"))
    assert lengths(film) == ["the sound has 1.0 s, the pictures have 2.0 s"]
    assert lengths(write_video(tmp_path / "b.mkv", moving_face(25), tone(1.4), codecs=("mpeg4", "flac"))) == []
    assert lengths(write_video(tmp_path / "c.mkv", moving_face(25), None)) == [
        f"no sound, silence in its place: {tmp_path / 'c.mkv'} has no sound: give a video with a sound track"
    ]


def broken(folder: Path, kind: str) -> Path:
    """A folder of 4 frames of which number 2 is not one; the path that the error is to name."""
    write_images(folder, faces(4), "jpg")
    bad = folder / "2.jpg"
    whole_file = bad.read_bytes()
    if kind == "cut":
        bad.write_bytes(whole_file[: len(whole_file) // 2])
    elif kind == "text":
        bad = folder / "notes.txt"
        bad.write_text("not an image")
    elif kind == "folder":
        bad = folder / "more"
        bad.mkdir()
    elif kind == "pipe":
        bad = folder / "3.5.jpg"
        os.mkfifo(bad)
    elif kind == "16 bit":
        Image.fromarray(np.full((64, 64), 40000, np.uint16)).save(bad, "PNG")
    elif kind == "script":
        bad.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n")
    elif kind == "huge":
        buffer = io.BytesIO()
        Image.new("1", (9000, 4400)).save(buffer, "PNG")
        bad.write_bytes(buffer.getvalue())
    return bad


@pytest.mark.parametrize("cropped", [True, False])
@pytest.mark.parametrize("kind", ["cut", "text", "folder", "pipe", "16 bit", "script", "huge"])
def test_what_is_no_frame_is_named(tmp_path: Path, kind: str, cropped: bool) -> None:
    bad = broken(tmp_path / "clip", kind)
    with pytest.raises(ClipError, match=bad.name) as caught:
        read_clip(tmp_path / "clip", SETTINGS.model_copy(update={"detect_every": 1}), cropped=cropped)
    assert caught.value.reason == "unreadable"


def test_an_empty_folder_and_one_without_a_face_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".hidden.jpg").write_bytes(encode_jpeg(faces(1)[0], 90))
    for folder, reason in ((tmp_path / "empty", "empty"), (write_images(tmp_path / "wall", grey(3)), "no face")):
        with pytest.raises(ClipError, match=folder.name) as caught:
            read_clip(folder, SETTINGS)
        assert caught.value.reason == reason


def test_files_without_permission_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)  # paths from here, as pytest closes the folders above to other users
    clip, film = write_images(Path("clip"), faces(2), "jpg"), video(Path("a.mp4"), 0.2)
    whole(clip)
    sound = write_video(Path("b.mkv"), [], tone(0.3))
    for locked, media in ((clip, clip), (clip / "1.jpg", clip), (film, film), (sound, clip)):
        with forbidden(locked), pytest.raises(ClipError, match=r"[Pp]ermission") as caught:
            read_clip(media, SETTINGS, cropped=True, sound=sound if locked == sound else None)
        assert locked.name in str(caught.value)
        assert caught.value.reason == "unreadable"
