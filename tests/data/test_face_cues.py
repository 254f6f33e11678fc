"""Cues of faces whose landmarks are known, and of sounds whose pitch, loudness and pauses are."""

import cv2
import numpy as np
import pytest

from mmadfer.data.cues import face
from mmadfer.data.cues.cues import FaceCues
from mmadfer.data.cues.decisions import named_units
from mmadfer.data.cues.face import face_cues, head_angles
from mmadfer.data.cues.voice import NOTHING, Sound, voice_cues
from mmadfer.data.sets.drawn_face import placed, unit_points
from mmadfer.data.sets.toy_units import UNITS_CLASSES

RATE = 16_000


def drawn(label: str, tilt: float = 0.0) -> np.ndarray:
    brow, mouth, corners = UNITS_CLASSES[label]
    return placed(unit_points(mouth, brow, corners), 100, 90, 60, tilt)[None]


@pytest.mark.parametrize(
    ("label", "units", "others"),
    [
        ("happy", {12}, {1, 4, 15, 26}),
        ("sad", {1, 15}, {4, 12, 26}),
        ("surprise", {1, 25, 26}, {4, 12, 15}),
        ("angry", {4}, {1, 12, 15, 26}),
        ("neutral", set(), {1, 4, 12, 15, 26, 43}),
    ],
)
@pytest.mark.parametrize("tilt", [0, 25])
def test_drawn_movements_are_named(label: str, units: set[int], others: set[int], tilt: float) -> None:
    found = {*named_units(face_cues(drawn(label, tilt)).units)}
    assert units <= found
    assert not others & found


def test_closed_eyes_and_an_open_mouth_are_counted() -> None:
    shut, open_ = drawn("neutral"), drawn("surprise")
    shut[:, [37, 38, 43, 44], 1] = shut[:, [41, 40, 47, 46], 1] - 0.5
    shut[:, 62] = shut[:, 66]
    found = face_cues(np.concatenate([shut, shut, open_, np.full((1, 68, 2), np.nan)]))
    assert (found.frames, found.found, found.eyes_closed, found.mouth_open) == (4, 3, 0.667, 0.333)
    assert 43 in named_units(found.units)


def test_a_movement_in_a_single_frame_of_many_is_none() -> None:
    still, moved = drawn("neutral"), drawn("surprise")
    assert 26 not in named_units(face_cues(np.concatenate([*[still] * 19, moved])).units)
    assert 26 in named_units(face_cues(np.concatenate([*[still] * 15, *[moved] * 5])).units)


@pytest.mark.parametrize("landmarks", [np.empty((0, 68, 2)), np.full((5, 68, 2), np.nan), np.zeros((5, 68, 2))])
def test_frames_without_a_face(landmarks: np.ndarray) -> None:
    assert face_cues(landmarks) == FaceCues(frames=len(landmarks), found=0)


def test_landmarks_that_are_no_face_are_measured_or_not_but_no_error() -> None:
    """A store may bring any numbers."""
    random = np.random.default_rng(0)
    for k in range(100):
        odd = random.choice([0, 1, 7, 100, -1e4, 65504, 1e30], size=(3, 68, 2)) * random.choice([0, 1], size=(3, 68, 2))
        landmarks = odd if k % 2 else random.normal(size=(3, 68, 2)) * 10.0 ** random.integers(-30, 30)
        found = face_cues(landmarks)
        assert found.frames == 3
        assert all(0 <= proxy <= 1 for proxy in found.units.values())


@pytest.mark.parametrize(("yaw", "pitch", "roll"), [(0, 0, 0), (30, 0, 0), (0, -20, 0), (0, 0, 25), (-25, 15, -10)])
def test_angles_of_the_head_are_those_by_which_it_was_turned(yaw: float, pitch: float, roll: float) -> None:
    """The points are projected by OpenCV, by a camera as far away as 30 faces are wide."""
    turn, _ = cv2.Rodrigues(np.array([0.0, -np.radians(yaw), 0.0]))
    for axis, angle in ((0, pitch), (2, roll)):
        turn = turn @ cv2.Rodrigues(np.radians(angle) * np.eye(3)[axis])[0]
    camera = np.array([[3000.0, 0, 50], [0, 3000, 50], [0, 0, 1]])
    model = np.array([*face._RIGID.values()])
    seen, _ = cv2.projectPoints(model, cv2.Rodrigues(turn)[0], np.array([0.1, -0.2, 30]), camera, None)
    points = np.zeros((1, 68, 2))
    points[:, [*face._RIGID]] = seen[:, 0]
    assert np.degrees(head_angles(points))[0] == pytest.approx([yaw, pitch, roll], abs=1.0)


def test_a_face_that_is_turned_away_tells_its_pose_and_no_movement() -> None:
    turned = drawn("surprise")
    turned[..., 0] = 100 + (turned[..., 0] - 100) * 0.3
    turned[:, 28:31, 0] += 20
    found = face_cues(turned)
    assert abs(found.yaw or 0) > 30
    assert (found.found, found.units, found.eyes_closed) == (1, {}, None)


def tone(seconds: float, hertz: float | np.ndarray = 200.0, peak: float = 0.5, rate: int = RATE) -> np.ndarray:
    cycles = np.cumsum(np.broadcast_to(hertz, round(seconds * rate)) / rate)
    return (peak * np.sin(2 * np.pi * cycles)).astype(np.float32)


@pytest.mark.parametrize(("hertz", "rate"), [(110, 16_000), (200, 44_100), (300, 8000)])
def test_pitch_and_loudness_are_measured(hertz: float, rate: int) -> None:
    found = voice_cues(Sound(tone(1, hertz, 0.5, rate), rate))
    assert found.pitch_hz == pytest.approx(hertz, rel=0.005)
    assert found.level_dbfs == pytest.approx(-9.0, abs=0.1)  # a sine has 3 dB less than its peak, which is 6 dB down
    assert found.pitch_range_semitones == pytest.approx(0, abs=0.1)


def test_an_octave_is_twelve_semitones() -> None:
    found = voice_cues(Sound(tone(2, 150 * 2 ** np.linspace(0, 1, 2 * RATE)), RATE))
    assert found.pitch_range_semitones == pytest.approx(0.8 * 12, abs=0.3)  # from the 10th to the 90th percentile


def test_pauses_and_speed_are_counted() -> None:
    quiet = np.zeros(RATE // 2, np.float32)
    sound = np.concatenate([quiet, tone(1), quiet, tone(1), quiet, tone(1), quiet])
    found = voice_cues(Sound(sound, RATE), "one two three four five six")
    assert found.pauses == 2
    assert found.pause_share == pytest.approx(0.25, abs=0.03)
    assert found.voiced_per_second == pytest.approx(1, abs=0.1)
    assert found.words_per_second == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize(
    "sound",
    [
        None,
        Sound(np.zeros(RATE, np.float32), RATE),
        Sound(np.ones(RATE, np.float32), RATE),
        Sound(tone(0.05), RATE),
        Sound(np.random.default_rng(1).normal(size=RATE).astype(np.float32) / 10, RATE),
        Sound(np.empty(0, np.float32), RATE),
    ],
)
def test_sound_without_a_voice_has_no_speech(sound: Sound | None) -> None:
    assert voice_cues(sound, "words") == NOTHING


@pytest.mark.parametrize("odd", [np.nan, np.inf, -3e38])
def test_samples_that_are_no_numbers_are_silence_or_as_loud_as_can_be(odd: float) -> None:
    sound = tone(1)
    sound[::1000] = odd
    assert voice_cues(Sound(sound, RATE)).pitch_hz == pytest.approx(200, rel=0.01)


@pytest.mark.parametrize("rate", [1000, 192_000])
def test_odd_rates_are_measured_or_have_no_speech(rate: int) -> None:
    found = voice_cues(Sound(tone(0.3, 200, 0.5, rate), rate))
    assert found.pitch_hz is None or found.pitch_hz == pytest.approx(200, rel=0.05)
