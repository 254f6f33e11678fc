"""A video goes in, what `mmadfer predict` says of it comes out, whole and event by event."""

import json
from pathlib import Path
from typing import Any

import pytest
from serve_setup import Served, events, until

from mmadfer import Recogniser
from mmadfer.cli.main import app, run


def predicted(model: Path, video: Path, **asked: Any) -> dict[str, Any]:
    faces = asked.pop("faces", "largest")
    return Recogniser(model, faces=faces)(video, **asked).to_dict() | {"video": "clip.mp4"}


@pytest.mark.parametrize("windows", [{}, {"window": 1.0, "hop": 0.5}], ids=["whole", "windows"])
def test_the_answer_is_that_of_the_library(server: Served, model: Path, video: Path, windows: dict[str, float]) -> None:
    job = server.ended(server.send(video, **{name: str(value) for name, value in windows.items()}))
    assert (job["state"], job["error"], job["progress"], job["name"]) == ("done", None, 1.0, "clip.mp4")
    assert job["prediction"] == json.loads(json.dumps(predicted(model, video, **windows)))
    (boxes,) = job["boxes"]
    assert boxes["person"] is None
    assert len(boxes["times"]) == len(boxes["boxes"]) > 10
    assert boxes["times"] == sorted(boxes["times"])
    assert job["size"] == [160, 160]
    assert all(0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1 for x0, y0, x1, y1 in boxes["boxes"])


def test_people_are_told_apart(server: Served, model: Path, pair: Path) -> None:
    job = server.ended(server.send(pair, faces="all", window="1", hop="0.5"))
    assert job["prediction"] == json.loads(json.dumps(predicted(model, pair, faces="all", window=1.0, hop=0.5)))
    one, other = job["boxes"]
    assert (one["person"], other["person"]) == (1, 2)
    assert all(left[2] < right[0] for left, right in zip(one["boxes"], other["boxes"], strict=False))


def test_events_come_in_order(server: Served, video: Path) -> None:
    url = server.send(video, window="1", hop="0.5").json()["url"]
    with server.client.stream("GET", url, headers={"accept": "text/event-stream"}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        found = list(events(response))
    names = [name for name, _ in found]
    assert names[0] == "progress"
    assert names[-1] == "done"
    assert names.count("done") == 1
    done = found[-1][1]
    assert [data for name, data in found if name == "segment"] == done["prediction"]["segments"]
    shares = [data["progress"] for name, data in found if name == "progress" and data["progress"] is not None]
    assert shares == sorted(shares)
    assert all("prediction" not in data for name, data in found if name == "progress")
    assert done == server.client.get(url).json()


def test_results_are_the_files_that_the_command_writes(
    server: Served, model: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = server.ended(server.send(video, name=str(video), window="1"))
    forms = ("json", "csv", "vtt", "srt")
    outs = [word for form in forms for word in ("--out", str(tmp_path / f"own.{form}"))]
    assert run(app, ["predict", str(video), "--model", str(model), "--window", "1", *outs]) == 0
    capsys.readouterr()
    for form in forms:
        response = server.client.get(f"/jobs/{job['id']}/result.{form}")
        assert response.headers["content-disposition"] == f'attachment; filename="prediction.{form}"'
        assert response.text == (tmp_path / f"own.{form}").read_text().replace(str(video), "clip.mp4")


def test_another_file_with_the_sound_is_heard(server: Served, model: Path, video: Path, pair: Path) -> None:
    files = {"video": ("clip.mp4", video.read_bytes()), "sound": ("other.mp4", pair.read_bytes())}
    job = server.ended(server.client.post("/predict", files=files))
    assert job["prediction"] == json.loads(json.dumps(predicted(model, video, sound=pair)))
    assert job["prediction"] != json.loads(json.dumps(predicted(model, video)))
    until(lambda: not server.files())


def test_a_job_that_is_forgotten_is_gone(server: Served, video: Path) -> None:
    response = server.send(video)
    url = response.json()["url"]
    assert server.ended(response)["state"] == "done"
    assert server.client.delete(url).status_code == 204
    for again in (server.client.get(url), server.client.delete(url), server.client.get(f"{url}/result.csv")):
        assert again.status_code == 404
        assert "no such job" in again.json()["error"]
    until(lambda: not server.files())
