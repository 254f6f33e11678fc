"""Who may ask: by host, origin and token; and what every answer says to browsers."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from serve_setup import Served, served

TOKEN = "a-token-of-the-tests"


@pytest.fixture(scope="module")
def closed(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with a token, for other machines, too."""
    options = ("--host", "0.0.0.0", "--token", TOKEN, "--live", 0)
    with served(model, tmp_path_factory.mktemp("closed"), *options) as found:
        yield found


def test_hosts_that_are_not_ours_are_refused(server: Served) -> None:
    port = urlsplit(server.url).port
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "LOCALHOST"):
        assert server.client.get("/health", headers={"host": host}).status_code == 200
    for host in ("evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", "", "[::1", "a:b"):
        response = server.client.get("/model", headers={"host": host})
        assert response.status_code in (400, 403)
        assert "labels" not in response.text


def test_pages_of_others_are_refused(server: Served, video: Path) -> None:
    own = server.url.rstrip("/")
    assert server.client.get("/model", headers={"origin": own}).status_code == 200
    for origin in ("null", "https://evil.example", "http://localhost:1", f"{own}.evil.example", own + "1"):
        files = {"video": ("a", video.read_bytes())}
        response = server.client.post("/predict", files=files, headers={"origin": origin})
        assert response.status_code == 403
        assert "another page" in response.json()["error"]
    assert server.client.get("/model", headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert not server.files()


@pytest.mark.parametrize(
    "given", [None, f"Bearer {TOKEN}x", "Bearer", f"Basic {TOKEN}", "Bearer ü", f"Bearer {TOKEN[:-1]}"]
)
def test_without_the_token_nothing_is_told(closed: Served, video: Path, given: str | None) -> None:
    headers = {} if given is None else {"authorization": given.encode()}
    ways = ["/model", "/metrics", "/openapi.json", "/jobs/" + "0" * 32, "/nothing"]
    answers = [closed.client.get(way, headers=headers) for way in ways]
    answers.append(closed.client.post("/predict", files={"video": ("a", video.read_bytes())}, headers=headers))
    for response in answers:
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert list(response.json()) == ["error"]
    assert closed.client.get("/health", headers=headers).status_code == 200
    assert not closed.files()


def test_with_the_token_all_is_there(closed: Served, video: Path) -> None:
    closed.client.headers["authorization"] = f"Bearer {TOKEN}"
    try:
        assert closed.client.get("/model").json()["token"] is True
        assert closed.client.get("/openapi.json").json()["security"] == [{"token": []}]
        assert closed.ended(closed.send(video))["state"] == "done"
        assert closed.client.get("/model", headers={"host": "any.example"}).status_code == 200
    finally:
        del closed.client.headers["authorization"]


def test_all_answers_tell_browsers_what_they_may(server: Served) -> None:
    for way in ("/", "/health", "/nothing", "/static/none.js", "/jobs/1", "/model"):
        response = server.client.get(way)
        policy = dict(part.strip().split(" ", 1) for part in response.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert "set-cookie" not in response.headers
        assert "server" not in response.headers


def test_only_the_pages_own_files_are_served(server: Served) -> None:
    for way in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/app.py", "/static/"):
        response = server.client.get(way)
        assert response.status_code == 404
        assert "import" not in response.text


def test_the_model_says_what_it_takes_and_what_the_law_says(server: Served) -> None:
    found = server.client.get("/model").json()
    assert found["labels"] == ["happy", "sad", "angry", "surprise"]
    assert (found["output"], found["faces"], found["live"], found["windows"]) == ("labels", True, True, True)
    assert found["limits"] == {"bytes": 2 << 30, "seconds": 7200.0, "jobs": 2, "queue": 16, "live": 4}
    assert "Article 5(1)(f)" in found["notice"]
    assert "Article 50(3)" in found["notice"]
