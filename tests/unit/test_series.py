"""One series over time out of parts of a video."""

import numpy as np
import pytest

from mmadfer.data.traces import Part, over_time
from mmadfer.runtime.series import PartSeries, joined


def test_windows_that_overlap_are_averaged_into_one_series() -> None:
    early = PartSeries(0, np.array([0.0, 0.1, 0.2, 0.3]), [np.array([0, 2])], [np.array([[0.0], [2.0]])])
    late = PartSeries(
        2, np.array([0.2, 0.3, 0.4]), [np.array([0, 2])] * 2, [np.array([[4.0], [4.0]]), np.zeros((2, 1))]
    )
    seconds, values = joined([early, late])
    assert seconds == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert values[:, 0] == pytest.approx([0, 1, 2, 2, 2]), "at 0.2: the mean of 2, 4 and 0"


def test_frames_of_one_time_are_two() -> None:
    times = np.array([0.0, 0.1, 0.1, 0.05, 0.2])  # a time stamp that goes back is a fault
    seconds, values = joined([PartSeries(0, times, [np.array([0, 2, 4])], [np.array([[0.0], [1.0], [3.0]])])])
    assert seconds == pytest.approx([0, 0.1, 0.1, 0.1, 0.2])
    assert values[:, 0] == pytest.approx([0, 0.5, 1, 2, 3])


def test_a_series_has_the_frames_of_a_test_where_a_window_begins_between_equal_times() -> None:
    times, values = np.array([0.0, 0.1, 0.1, 0.2, 0.3, 0.3]), np.arange(8.0).reshape(2, 4, 1)
    shown = np.arange(4)
    parts = [PartSeries(first, times[first : first + 4], [shown], [values[k]]) for k, first in enumerate((0, 2))]
    seconds, found = joined(parts)
    np.testing.assert_array_equal(seconds, times)
    tested = over_time(6, [Part(first, 4, first + shown, values[k]) for k, first in enumerate((0, 2))])
    np.testing.assert_array_equal(found, tested)


def test_frames_in_no_part_are_left_out() -> None:
    parts = [PartSeries(first, np.array([first / 10]), [np.zeros(1, int)], [np.ones((1, 1))]) for first in (1, 4)]
    seconds, found = joined(parts)
    assert (seconds.tolist(), found.tolist()) == ([0.1, 0.4], [[1], [1]])
