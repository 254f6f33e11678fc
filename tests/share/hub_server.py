"""A stand-in of the Hugging Face hub: its HTTP interface as far as huggingface_hub asks it to push and fetch models."""

import asyncio
import base64
import hashlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
import yaml
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

LARGE = (".safetensors", ".onnx", ".data")


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Repository:
    """Commits, each all its files by name; branches are names of commits."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        told = json.dumps([len(self.commits), sorted((name, git_hash(data)) for name, data in files.items())])
        name = hashlib.sha1(told.encode()).hexdigest()
        self.commits[name] = files
        self.branches[branch] = name
        return name

    def named(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.branches.get(revision)


@dataclass
class Hub:
    """What is on the hub, and what it does wrong where a test says so."""

    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """Methods and paths of all requests."""
    refuse: str = ""
    """Requests whose path has this in it are answered by error 500."""
    told_sizes: dict[str, int] = field(default_factory=dict)
    """Sizes of files that the hub tells in place of the true ones."""
    sent: dict[str, bytes] = field(default_factory=dict)
    """Content of files that is sent in place of the true one."""
    told_names: list[str] = field(default_factory=list)
    """Names that the hub lists as well."""
    told_commit: str = ""
    """What the hub calls the commit of any file."""
    told_etag: str = ""
    """What the hub calls the content of any file."""
    hold: str = ""
    """Requests whose path has this in it get half of their answer, or none if they bring something, until `go`."""
    held: threading.Event = field(default_factory=threading.Event)
    """One is held."""
    go: threading.Event = field(default_factory=threading.Event)

    def make(self, name: str, files: dict[str, bytes]) -> str:
        self.repositories[name] = Repository()
        return self.repositories[name].commit(files)


def _missing(code: str) -> JSONResponse:
    return JSONResponse({"error": code}, 404, {"X-Error-Code": code, "X-Error-Message": code})


def _looked_up(hub: Hub, name: str, revision: str) -> tuple[Repository, str]:
    """A repository and a commit of it; answers 404 where one is not there."""
    found = hub.repositories.get(name)
    commit = found.named(revision) if found else None
    if found is None or commit is None:
        code = "RepoNotFound" if found is None else "RevisionNotFound"
        raise HTTPException(404, code, {"X-Error-Code": code, "X-Error-Message": code})
    return found, commit


async def _halting(hub: Hub, content: bytes) -> AsyncIterator[bytes]:
    yield content[: len(content) // 2]
    hub.held.set()
    await asyncio.to_thread(hub.go.wait)
    yield content[len(content) // 2 :]


def _sibling(hub: Hub, name: str, data: bytes) -> dict[str, Any]:
    size = hub.told_sizes.get(name, len(data))
    told: dict[str, Any] = {"rfilename": name, "size": size, "blobId": git_hash(data)}
    if name.endswith(LARGE):
        told["lfs"] = {"size": size, "sha256": hashlib.sha256(data).hexdigest(), "pointerSize": 134}
    return told


def application(hub: Hub) -> FastAPI:  # noqa: PLR0915
    app = FastAPI()

    @app.middleware("http")
    async def note(request: Request, call_next: Any) -> Response:
        hub.asked.append(f"{request.method} {request.url.path}")
        if hub.refuse and hub.refuse in request.url.path:
            return JSONResponse({"error": "broken"}, 501)
        if request.method == "PUT" and hub.hold and hub.hold in request.url.path:
            hub.held.set()
            await asyncio.to_thread(hub.go.wait)
        response: Response = await call_next(request)
        return response

    @app.post("/api/repos/create")
    async def create(request: Request) -> Response:
        told = await request.json()
        name = f"{told['organization']}/{told['name']}"
        if name in hub.repositories:
            return JSONResponse({"error": "exists", "url": f"{hub.address}/{name}"}, 409)
        hub.repositories[name] = Repository(private=told.get("visibility") == "private")
        hub.repositories[name].commit({".gitattributes": b"*.onnx filter=lfs\n"})
        return JSONResponse({"url": f"{hub.address}/{name}", "name": name})

    @app.post("/api/models/{user}/{name}/branch/{branch:path}")
    async def branch(user: str, name: str, branch: str) -> Response:
        found = hub.repositories[f"{user}/{name}"]
        if branch in found.branches:
            return JSONResponse({"error": "exists"}, 409)
        found.branches[branch] = found.branches["main"]
        return JSONResponse({})

    @app.post("/api/validate-yaml")
    async def validate(request: Request) -> Response:
        front = (await request.json())["content"].split("---\n")[1]
        good = isinstance(yaml.safe_load(front), dict)
        return JSONResponse({"errors": [] if good else [{"message": "no YAML"}], "warnings": []}, 200 if good else 400)

    @app.post("/api/models/{user}/{name}/preupload/{revision:path}")
    async def preupload(request: Request) -> Response:
        files = (await request.json())["files"]
        modes = {one["path"]: "lfs" if one["path"].endswith(LARGE) else "regular" for one in files}
        return JSONResponse(
            {"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]}
        )

    @app.post("/{user}/{name}.git/info/lfs/objects/batch")
    async def batch(request: Request) -> Response:
        objects = []
        for one in (await request.json())["objects"]:
            place = {"href": f"{hub.address}/lfs/{one['oid']}"}
            actions = {} if one["oid"] in hub.blobs else {"actions": {"upload": place}}
            objects.append({"oid": one["oid"], "size": one["size"], **actions})
        return JSONResponse({"transfer": "basic", "objects": objects})

    @app.put("/lfs/{oid}")
    async def put(oid: str, request: Request) -> Response:
        data = await request.body()
        assert hashlib.sha256(data).hexdigest() == oid
        hub.blobs[oid] = data
        return Response()

    @app.post("/api/models/{user}/{name}/commit/{revision:path}")
    async def commit(user: str, name: str, revision: str, request: Request) -> Response:
        found = hub.repositories[f"{user}/{name}"]
        files = dict(found.commits[found.branches[revision]])
        for line in (await request.body()).splitlines():
            told = json.loads(line)
            value = told["value"]
            if told["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif told["key"] == "lfsFile":
                files[value["path"]] = hub.blobs[value["oid"]]
            elif told["key"] == "deletedFile":
                del files[value["path"]]
        made = found.commit(files, revision)
        return JSONResponse(
            {"commitUrl": f"{hub.address}/{user}/{name}/commit/{made}", "commitOid": made, "success": True}
        )

    @app.get("/api/models/{user}/{name}")
    @app.get("/api/models/{user}/{name}/revision/{revision:path}")
    async def info(user: str, name: str, revision: str = "main") -> Response:
        found, commit = _looked_up(hub, f"{user}/{name}", revision)
        siblings = [_sibling(hub, path, data) for path, data in found.commits[commit].items()]
        siblings += [_sibling(hub, path, b"") for path in hub.told_names]
        return JSONResponse({"id": f"{user}/{name}", "sha": commit, "private": found.private, "siblings": siblings})

    @app.api_route("/{user}/{name}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
    async def resolve(user: str, name: str, revision: str, path: str, request: Request) -> Response:
        found, commit = _looked_up(hub, f"{user}/{name}", revision)
        data = found.commits[commit].get(path)
        if data is None:
            return _missing("EntryNotFound")
        etag = hub.told_etag or (hashlib.sha256(data).hexdigest() if path.endswith(LARGE) else git_hash(data))
        headers = {"X-Repo-Commit": hub.told_commit or commit, "ETag": f'"{etag}"', "X-Linked-Etag": f'"{etag}"'}
        if request.method == "HEAD":
            return Response(headers={**headers, "Content-Length": str(hub.told_sizes.get(path, len(data)))})
        content = hub.sent.get(path, data)
        if hub.hold and hub.hold in path:
            return StreamingResponse(_halting(hub, content), headers={**headers, "Content-Length": str(len(content))})
        return Response(content, headers=headers)

    return app


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub at an address of this machine, while the block runs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # who asks before the server is up waits
        hub.address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(application(hub), log_level="error"))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.should_exit = True
            thread.join()
