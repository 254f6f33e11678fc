"""`mmadfer prepare` as it is typed: the configuration that it takes, and a page that would cost a file."""

from pathlib import Path

import pytest
from make_media import video

from mmadfer.cli.main import app, run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("data_set", "options", "config"),
    [
        ("mafw", [], "mafw_224"),
        ("mafw_compound", [], "mafw_compound_224"),
        ("crema_d", [], "crema_d"),
        ("ravdess", [], "ravdess"),
        ("biovid", [], "biovid"),
        ("affwild2", [], "jmt_affwild2"),
        ("dfew", [], "dfew_160"),
        ("csv", [], "own_160"),
        ("folder", [], "own_160"),
        ("mafw", ["--config", "dfew_160"], "dfew_160"),
    ],
)
def test_a_set_has_its_own_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data_set: str, options: list[str], config: str
) -> None:
    command = ["prepare", data_set, "--root", str(tmp_path / "gone"), "--out", str(tmp_path / "a.store"), *options]
    assert run(app, command) == 2
    assert capsys.readouterr().out == f"configuration {config}\n"


def test_a_page_that_would_cost_a_file_is_refused_before_anything_is_prepared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film, report = video(tmp_path / "data/glad/1.mp4", 0.2), tmp_path / "a.store.report.json"
    video(tmp_path / "data/sad/1.mp4", 0.2)
    report.write_text("{}")
    before = film.read_bytes()
    command = ["prepare", "folder", "--root", str(tmp_path / "data"), "--out", str(tmp_path / "a.store"), "--preview"]
    for page in (film, report, tmp_path / "a.store", film / "a.html"):
        assert run(app, [*command, str(page)]) == 2
        assert "preview" in capsys.readouterr().err
    assert (film.read_bytes(), report.read_text()) == (before, "{}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.store.report.json", "data"]
