import pytest

from mmadfer.utils.durations import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0123, "12.3 ms"),
        (1.25, "1.25 s"),
        (59.9, "59.9 s"),
        (59.96, "0:01:00"),
        (250.4, "0:04:10"),
        (93_600, "26:00:00"),
    ],
)
def test_time_as_people_read_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text
