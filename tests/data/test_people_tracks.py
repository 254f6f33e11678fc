"""Which faces of a video are one person's, through misses, crossings and cuts; and where its shots begin."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_media import FPS, grey, moving_face, portrait, tone, write_video

from mmadfer.config.schema import PrepareConfig
from mmadfer.data.faces import people
from mmadfer.data.faces.people import Person, check_faces, find_people, largest
from mmadfer.data.faces.search import FaceSearch, search_faces
from mmadfer.data.media.cuts import Cuts
from mmadfer.data.media.frames import MemoryPicture
from mmadfer.data.video_windows import VideoWindow, Windows, read_windows

NONE = np.empty((0, 5))
EVERY = 0.2
"""Seconds from one picture searched to the next."""
SETTINGS = PrepareConfig(face_size=64)


def row(x: float, y: float = 0.3, side: float = 0.1, score: float = 0.99) -> np.ndarray:
    return np.array([[x, y, x + side, y + side, score]])


def both(*rows: np.ndarray) -> np.ndarray:
    return np.concatenate(rows)


def told(found: list[np.ndarray], cuts: set[int] | None = None) -> list[list[tuple[int, float]]]:
    """For each picture, the number and the left edge of each person in it."""
    everyone = find_people(found, [EVERY * k for k in range(len(found))], cuts or set())
    return [
        [(one.number, round(float(one.faces[k][0]), 6)) for one in everyone if k in one.faces]
        for k in range(len(found))
    ]


def numbers(found: list[np.ndarray], cuts: set[int] | None = None) -> list[list[int]]:
    return [[number for number, _ in here] for here in told(found, cuts)]


def test_two_beside_each_other_keep_their_numbers_from_the_left() -> None:
    found = [both(row(0.6 - 0.01 * k), row(0.2 + 0.01 * k)) for k in range(10)]
    assert told(found) == [[(1, round(0.2 + 0.01 * k, 6)), (2, round(0.6 - 0.01 * k, 6))] for k in range(10)]


@pytest.mark.parametrize("seed", range(10))
def test_the_order_of_detections_makes_no_difference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = [both(*(row(0.05 + 0.3 * n + 0.02 * rng.normal()) for n in range(3))) for _ in range(12)]
    found[5], found[6] = found[5][1:], NONE
    assert told([rng.permutation(faces) for faces in found]) == told(found)


def test_a_number_lasts_through_misses_and_no_longer_than_it_may() -> None:
    there, away = row(0.2), int(people.LOST_SECONDS / EVERY)
    assert numbers([there, there, *[NONE] * (away - 1), there, there])[-1] == [1]
    assert numbers([there, there, *[NONE] * (away + 1), there, there])[-1] == [2]
    every_second = [there if k // 5 % 2 == 0 else NONE for k in range(50)]
    assert {number for here in numbers(every_second) for number in here} == {1}


def test_who_is_missed_does_not_become_the_one_beside() -> None:
    found = [both(row(0.2), row(0.35)), both(row(0.2), row(0.35)), *[row(0.35)] * 4, both(row(0.2), row(0.35))]
    assert numbers(found) == [[1, 2], [1, 2], *[[2]] * 4, [1, 2]]


@pytest.mark.parametrize("hidden", [0, 2, 4])
def test_two_who_pass_each_other_keep_their_numbers(hidden: int) -> None:
    """The one behind is not seen in the middle."""
    found, middle = list[np.ndarray](), 10
    for k in range(2 * middle + 1):
        behind, front = row(0.1 + 0.03 * k), row(0.7 - 0.03 * k, 0.32)
        found.append(front if abs(k - middle) <= hidden / 2 and hidden else both(behind, front))
    seen = told(found)
    assert [number for number, _ in seen[0]] == [1, 2]
    ends = dict(seen[-1])
    assert set(ends) == {1, 2}
    assert ends[1] == pytest.approx(0.7)
    assert ends[2] == pytest.approx(0.1)
    assert {number for here in seen for number, _ in here} == {1, 2}


def test_a_face_of_another_size_is_another_one() -> None:
    far = row(0.2, side=0.1)
    assert numbers([far, far, row(0.15, 0.25, 0.3), row(0.15, 0.25, 0.3)]) == [[1], [1], [2], [2]]


def test_a_cut_ends_tracks_but_of_a_face_in_the_same_place() -> None:
    here, slightly = row(0.2), row(0.21)
    beside = row(0.28)  # near enough within a shot
    assert numbers([here, here, beside, beside]) == [[1]] * 4
    assert numbers([here, here, beside, beside], {2}) == [[1], [1], [2], [2]]
    assert numbers([here, here, slightly, slightly], {2}) == [[1]] * 4
    assert numbers([here, here, NONE, here, here], {2}) == [[1], [1], [], [2], [2]]  # not behind the cut at once
    assert numbers([here, here, NONE, here, here], {3}) == [[1], [1], [], [2], [2]]  # nor right before it
    two = both(row(0.2), row(0.6))
    swapped = both(row(0.4), row(0.6))
    assert numbers([two, two, swapped, swapped], {2}) == [[1, 2], [1, 2], [2, 3], [2, 3]]


def test_what_is_seen_once_or_never_surely_is_nobody() -> None:
    assert numbers([row(0.2), both(row(0.2), row(0.7)), row(0.2)]) == [[1], [1], [1]]
    unsure = [both(row(0.2), row(0.7, score=0.9)) for _ in range(4)]
    assert numbers(unsure) == [[1]] * 4
    assert numbers([both(row(0.2), row(0.7))]) == [[1, 2]]  # of one picture, nothing else is known
    assert numbers([]) == []
    assert numbers([NONE, NONE]) == [[], []]


def test_the_largest_people_keep_their_numbers() -> None:
    found = [both(row(0.1, side=0.05), row(0.3, side=0.2), row(0.7, side=0.1)) for _ in range(4)]
    everyone = find_people(found, [0, 0.2, 0.4, 0.6])
    assert [one.number for one in largest(everyone, 1)] == [2]
    assert [one.number for one in largest(everyone, 2)] == [2, 3]
    assert [one.number for one in largest(everyone, 9)] == [1, 2, 3]
    assert [one.number for one in largest(everyone, "all")] == [1, 2, 3]


def test_twelve_people_who_move_keep_their_numbers() -> None:
    rng = np.random.default_rng(1)
    places = [(0.02 + 0.25 * (n % 4), 0.05 + 0.3 * (n // 4)) for n in range(12)]
    found = [both(*(row(x + 0.01 * rng.normal(), y + 0.01 * rng.normal()) for x, y in places)) for _ in range(40)]
    assert numbers(found) == [list(range(1, 13))] * 40


@pytest.mark.parametrize("wrong", ["none", "", "0", "-1", "1.5", 0, True, 2.7, None])
def test_faces_are_all_the_largest_or_a_number(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r".*"):
        check_faces(wrong)
    assert [check_faces("all"), check_faces("largest"), check_faces("2"), check_faces(3)] == ["all", "largest", 2, 3]


def cuts_of(pictures: list[np.ndarray]) -> list[int]:
    cuts = Cuts()
    assert len([*cuts.passing(MemoryPicture(one, k / FPS) for k, one in enumerate(pictures))]) == len(pictures)
    return cuts.frames.tolist()


def test_cuts_are_found_and_movement_is_none() -> None:
    face, other = moving_face(20, step=3), [np.rot90(one, 2) for one in moving_face(20)]
    assert cuts_of(face) == []
    assert cuts_of([*face, *other, *face]) == [20, 40]
    assert cuts_of([*face, *[np.zeros_like(face[0])] * 9]) == [20]
    noise = np.random.default_rng(1).integers(0, 256, (9, 48, 64, 3), np.uint8)
    assert cuts_of([*noise]) == []  # each differs as much from the one before
    fading = [(face[-1] * (1 - k / 20) + other[0] * (k / 20)).astype(np.uint8) for k in range(21)]
    assert cuts_of([*face, *fading, *other]) == []
    assert cuts_of(face[:1]) == cuts_of([]) == []


def search_of(looks: int, cuts: list[int]) -> FaceSearch:
    return FaceSearch([5 * k for k in range(looks)], [NONE] * looks, [False] * looks, set(), cuts)


def test_a_person_is_there_from_cut_to_cut() -> None:
    someone = Person({k: row(0.2)[0] for k in (2, 3, 4)})
    assert search_of(9, []).stretch(someone, 0, 41) == (10, 21)
    assert search_of(9, [7, 23]).stretch(someone, 0, 41) == (7, 23)
    assert search_of(9, [5, 26]).stretch(someone, 0, 41) == (10, 21)  # others are before and behind
    assert search_of(9, [7, 9, 22, 24]).stretch(someone, 0, 41) == (9, 22)
    assert search_of(9, [7, 23]).stretch(someone, 12, 20) == (12, 20)
    assert search_of(5, []).stretch(someone, 0, 21) == (10, 21)


def test_who_is_missed_at_the_edge_of_a_window_is_there_from_look_to_look() -> None:
    someone = Person({k: row(0.2)[0] for k in (0, 1, 2, 6, 7, 8)})  # frames 0, 5, 10, 30, 35, 40
    search = search_of(9, [])
    assert search.stretch(someone, 0, 41) == (0, 41)
    assert search.stretch(someone, 0, 20) == (0, 11)
    assert search.stretch(someone, 0, 15) == (0, 11)  # at 15 nobody
    assert search.stretch(someone, 12, 41) == (30, 41)
    assert search.stretch(someone, 2, 9) == (2, 9)  # and at 10 too
    assert search.stretch(someone, 12, 30)[0] == search.stretch(someone, 12, 30)[1]  # missed in all of it
    assert search.stretch(someone, 6, 9) == (6, 9)  # not searched, and there at 5 and 10
    assert search.stretch(someone, 11, 14) == (11, 11)  # at 10, and not at 15
    assert search_of(9, [13, 27]).stretch(someone, 0, 20) == (0, 13)
    assert search_of(9, [13, 27]).stretch(someone, 12, 41) == (27, 41)


def two(frames: int, right: slice = slice(None)) -> list[np.ndarray]:
    """Two portraits, of which the right one is there in some frames alone."""
    there = set(range(frames)[right])
    empty = grey(1)[0]
    return [
        np.concatenate([one, portrait()[:, ::-1] if k in there else empty], axis=1)
        for k, one in enumerate(moving_face(frames))
    ]


def windows_of(path: Path, windows: Windows | None, faces: people.Faces = "all") -> list[VideoWindow]:
    return list(read_windows(path, SETTINGS, windows, keep=lambda n: [0, n // 2], faces=faces))


def test_each_person_has_the_sound_of_the_time_that_shows_them(tmp_path: Path) -> None:
    sound = (0.1 * np.sin(np.linspace(0, 3, 3 * 44100) ** 2 * 900)).astype(np.float32)[None]  # no part like another
    path = write_video(tmp_path / "a.mkv", two(75, slice(25, None)), sound, codecs=("ffv1", "flac"), pixels="bgr0")
    whole = windows_of(path, None)
    assert [(one.person, one.start, one.end) for one in whole] == [(1, 0, 3), (2, 1, 3)]
    alone = list(read_windows(path, SETTINGS, None, keep=lambda n: [0, n // 2]))
    assert whole[0].clip is not None
    assert whole[1].clip is not None
    assert alone[0].clip is not None
    assert whole[0].clip.waveform.tobytes() == alone[0].clip.waveform.tobytes()
    assert len(whole[1].clip.times) == 50
    np.testing.assert_array_equal(whole[1].clip.waveform, whole[0].clip.waveform[44100:])
    overlapping = windows_of(path, Windows(1.5, 0.5))
    assert [(one.person, one.start, one.end) for one in overlapping] == [
        *[(1, 0, 1.5), (2, 1, 1.5), (1, 0.5, 2), (2, 1, 2), (1, 1, 2.5), (2, 1, 2.5), (1, 1.5, 3), (2, 1.5, 3)]
    ]
    for one in overlapping:
        assert one.clip is not None
        part = whole[0].clip.waveform[round(one.start * 44100) : round(one.end * 44100)]
        np.testing.assert_array_equal(one.clip.waveform, part)


def test_both_faces_are_cut_out_of_their_own_half(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", two(30), tone(1.2))
    for one in windows_of(path, Windows(0.6, 0.6)):
        assert one.clip is not None
        assert one.clip.boxes is not None
        assert ((one.clip.boxes[:, [0, 2]] < 0.5) == (one.person == 1)).all()
    assert [one.person for one in windows_of(path, None, 1)] in ([1], [2])


def test_who_comes_back_is_cut_out_from_then_on(tmp_path: Path) -> None:
    """The right one is hidden from 1 to 2.4 s."""
    frames = [one.copy() for one in two(85)]
    for one in frames[25:60]:
        one[40:150, -180:-90] = 128
    path = write_video(tmp_path / "a.mkv", frames, tone(3.4), codecs=("ffv1", "flac"), pixels="bgr0")
    found = [(one.person, one.start, one.end) for one in windows_of(path, Windows(1.7, 1.7))]
    assert found == [(1, 0, 1.7), (2, 0, 0.84), (1, 1.7, 3.4), (2, 2.4, 3.4)]


def test_a_window_without_anyone_says_so(tmp_path: Path) -> None:
    frames = [*two(30), *[np.concatenate([one, one], axis=1) for one in grey(60)]]
    path = write_video(tmp_path / "a.mkv", frames, tone(3.6))
    found = windows_of(path, Windows(1.2, 1.2))
    assert [(one.person, one.start) for one in found] == [(1, 0), (2, 0), (0, 1.2), (0, 2.4)]
    assert [str(one.problem) for one in found[2:]] == ["no face", "no face"]


def test_a_scene_behind_a_cut_has_people_of_its_own(tmp_path: Path) -> None:
    first, second = two(30), [np.roll(one, 90, axis=1) for one in two(33)]
    path = write_video(tmp_path / "a.mkv", [*first, *second], tone(63 / FPS))
    seen, found = search_faces(path, SETTINGS, "cpu", cuts=True)
    assert found.cuts == [30]
    everyone = found.people(seen.times)
    assert len(everyone) == 4
    assert [found.stretch(one, 0, 63) for one in everyone] == [(0, 30), (0, 30), (30, 63), (30, 63)]
