"""What a person is told of a clip, and what not."""

import pytest

from mmadfer.data.media import notes


@pytest.mark.parametrize(
    ("sound", "pictures"), [(3.0, 2.0), (2.0, 3.0), (12.8, 7.7), (100.0, 89.9), (2.0, 1.4), (0.6, 0.0), (1.0, 1.6)]
)
def test_lengths_that_differ_by_a_tenth_and_half_a_second_are_told(sound: float, pictures: float) -> None:
    (told,) = notes.length_notes(sound, pictures)
    assert told == f"the sound has {sound:.1f} s, the pictures have {pictures:.1f} s"
    (rated,) = notes.length_notes(sound, pictures, 29.97)
    assert rated == f"{told} at 29.97 per second (another rate: --fps, or prepare.fps)"
    assert notes.kind(told) is told
    assert isinstance(told, notes.Whole)


@pytest.mark.parametrize(
    ("sound", "pictures"), [(3.0, 3.0), (1.0, 1.5), (1.4, 1.0), (100.0, 90.1), (90.1, 100.0), (0.0, 9.0), (5.0, 5.5)]
)
def test_lengths_that_are_nearly_the_same_or_no_sound_are_not(sound: float, pictures: float) -> None:
    assert notes.length_notes(sound, pictures) == notes.length_notes(sound, pictures, 25) == ()


def test_another_face_is_told_of_where_it_is_there_for_a_good_part() -> None:
    assert list(map(str, notes.second_face(3, 12))) == [
        "another face, about as large, is there in 3 of 12 frames looked at"
    ]
    assert notes.second_face(2, 12) == notes.second_face(0, 3) == ()
    assert len(notes.second_face(1, 1)) == 1
