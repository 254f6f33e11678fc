"""The HTTP interface: what is asked for, and what is answered. The contract is docs/page.md."""

import asyncio
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response, StreamingResponse

from mmadfer.data.store.store import FULL_DISK
from mmadfer.data.video_windows import Windows
from mmadfer.errors import ConfigError, MissingDependencyError
from mmadfer.runtime.recogniser import Recogniser
from mmadfer.runtime.writers import write_results
from mmadfer.serve import upload as uploads
from mmadfer.serve.errors import HttpError, in_fields
from mmadfer.serve.events import events, told
from mmadfer.serve.job import DONE, Job
from mmadfer.serve.jobs import BusyError
from mmadfer.serve.metrics import CONTENT_TYPE
from mmadfer.serve.replies import Error, Health, JobState, ModelFacts, Queued
from mmadfer.serve.service import Service
from mmadfer.version import VERSION

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
"""Endings of the page's files."""
_FORMS = {"json": "application/json", "csv": "text/csv", "vtt": "text/vtt", "srt": "application/x-subrip"}
_DRAIN_BYTES, _DRAIN_SECONDS = 64 << 20, 5.0
"""Of a refused upload that are read all the same: a browser that is cut off while it sends hears no reason."""
_EVENTS = "text/event-stream"


def _errors(**told: str) -> dict[int | str, dict[str, Any]]:
    return {int(status[1:]): {"model": Error, "description": text} for status, text in told.items()}


_ALL = _errors(
    _401="The token is missing, or another one.", _403="Another host or origin.", _422="A parameter that cannot be."
)
_NO_JOB = _errors(_404="There is no such job, or it is forgotten.")
_REFUSED = _errors(
    _400="The form or an option cannot be.",
    _408="The upload came too slowly.",
    _413="The upload is too large.",
    _415="It is no form.",
    _429="Too many jobs wait.",
    _503="The server stops.",
    _507="The server's disk is full.",
)
_REFUSED[429]["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
_FILE = {"type": "string", "format": "binary"}
_FORM = {
    "type": "object",
    "required": ["video"],
    "additionalProperties": False,
    "properties": {
        "video": _FILE | {"description": "The video."},
        "sound": _FILE | {"description": "The file with its sound, if that is another one."},
        "window": {"type": "number", "minimum": 0.1, "description": "Seconds of each window; default: the whole."},
        "hop": {"type": "number", "minimum": 0.04, "description": "Seconds between the starts of two windows."},
        "faces": {"type": "string", "description": "largest, all, or a number of people.", "default": "largest"},
    },
}


def page_files() -> dict[str, tuple[str, bytes]]:
    """The page's files by name, with their type: nothing else is ever read for a request."""
    folder = files("mmadfer.serve") / "page"
    if not folder.is_dir():
        return {}
    there = [(one, Path(one.name).suffix) for one in folder.iterdir()]
    return {one.name: (_TYPES[ending], one.read_bytes()) for one, ending in there if ending in _TYPES}


def application(service: Service) -> FastAPI:
    """The application, without its guard."""
    app = FastAPI(
        title="mmadfer",
        version=VERSION,
        description="Audio-visual emotion recognition of one model.",
        docs_url=None,
        redoc_url=None,
    )
    _add_errors(app, service)
    _add_page(app)
    _add_facts(app, service)
    _add_predict(app, service)
    _add_jobs(app, service)
    app.add_api_websocket_route("/live", service.live.handle)
    _add_token(app, service)
    return app


def _add_errors(app: FastAPI, service: Service) -> None:
    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        words = {404: "there is nothing under this address", 405: "this address is asked for in another way"}
        told = f"{words.get(error.status_code, error.detail)}: /openapi.json describes all that there is"
        return JSONResponse({"error": told}, error.status_code, error.headers)

    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, HttpError)
        if request.method == "POST":
            service.metrics.refused.labels(error.status).inc()
        await _drain(request, service)
        return JSONResponse({"error": error.told}, error.status, error.headers)

    async def gone(_: Request, __: Exception) -> Response:
        return Response(status_code=400)  # nobody hears it

    async def odd(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        places = ", ".join(sorted({str(one["loc"][-1]) for one in error.errors()}))
        return JSONResponse({"error": f"{places} cannot be: /openapi.json says what it may be"}, 422)

    async def fault(_: Request, error: Exception) -> Response:
        return JSONResponse({"error": f"{type(error).__name__} in the server, whose log says more"}, 500)

    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(HttpError, ours)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(RequestValidationError, odd)
    app.add_exception_handler(Exception, fault)


async def _drain(request: Request, service: Service) -> None:
    if "expect" in request.headers:  # it waits for a word before it sends
        return
    taken = 0
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for chunk in uploads.chunks(request, lambda: service.stopping):
                taken += len(chunk)
                if taken > _DRAIN_BYTES:
                    return
    except (TimeoutError, ClientDisconnect, HttpError, RuntimeError):  # the last: it has been read
        return


def _add_page(app: FastAPI) -> None:
    there = page_files()

    def file(name: str) -> Response:
        if name not in there:
            raise HttpError(404, "the page has no such file")
        kind, data = there[name]
        return Response(data, media_type=kind, headers={"cache-control": "no-cache"})

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return file("index.html")

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        return file(name)


def _add_facts(app: FastAPI, service: Service) -> None:
    facts = service.model()

    @app.get("/model", response_model=ModelFacts, responses=_ALL)
    def model() -> Response:
        """Which model answers, what it asks for, and what the server takes."""
        return JSONResponse(facts)

    @app.get("/health", response_model=Health, responses=_errors(_503="The server stops, or its model has stopped."))
    def health() -> Response:
        """Whether the server works."""
        if not service.works:
            raise HttpError(503, "the server stops, or the model has stopped: start it again")
        return JSONResponse({"status": "ok"})

    @app.get("/metrics", response_class=Response, responses=_ALL | {200: {"content": {"text/plain": {}}}})
    def metrics() -> Response:
        """What Prometheus scrapes."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)


def _add_predict(app: FastAPI, service: Service) -> None:
    body = {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}

    @app.post(
        "/predict",
        status_code=202,
        response_model=Queued,
        responses=_ALL | _REFUSED,
        openapi_extra={"requestBody": body},
    )
    async def predict(request: Request) -> Response:
        """Send a video; the answer says where its job is."""
        try:
            with service.jobs.upload():
                job = await _received(service, request)
                service.jobs.add(job)
        except BusyError as error:
            raise HttpError(429, str(error), {"retry-after": str(error.retry)}) from error
        if await request.is_disconnected():  # nobody would hear of the job
            service.jobs.forget(job)
            raise ClientDisconnect
        url = f"/jobs/{job.id}"
        return JSONResponse({"id": job.id, "url": url, "state": job.state}, 202, {"location": url})


async def _received(service: Service, request: Request) -> Job:
    limits, name = service.limits, service.jobs.new_id()

    def stopping() -> bool:
        return service.stopping

    uploads.check_running(stopping)
    uploads.check_length(request, limits.max_bytes)
    try:
        upload = await uploads.received(request, service.folder, name, limits.max_bytes, limits.timeout, stopping)
    except OSError as error:
        if error.errno in FULL_DISK:
            raise HttpError(507, "the server's disk is full: try again later, or tell whoever runs it") from error
        raise
    try:
        service.metrics.uploaded.inc(upload.video.stat().st_size)
        return Job(name, upload, *_asked(service.recogniser, upload.options))
    except BaseException:
        upload.remove()
        raise


def _asked(recogniser: Recogniser, options: dict[str, str]) -> tuple[Recogniser, Windows | None]:
    """The model for the faces that are asked for, and the windows."""
    window, hop = uploads.number(options, "window"), uploads.number(options, "hop")
    try:
        chosen = recogniser.of_faces(options.get("faces") or "largest")
        return chosen, chosen.windows(window, hop)
    except (ConfigError, MissingDependencyError) as error:
        raise HttpError(400, in_fields(str(error)).replace(str(recogniser.path), recogniser.path.name)) from error


def _add_jobs(app: FastAPI, service: Service) -> None:
    jobs = service.jobs

    def found(name: str) -> Job:
        if (job := jobs.get(name)) is None:
            raise HttpError(404, "there is no such job, or it is forgotten: send the video again")
        return job

    @app.get(
        "/jobs/{job}",
        response_model=JobState,
        responses=_ALL | _NO_JOB | {200: {"content": {_EVENTS: {"schema": {"type": "string"}}}}},
    )
    def state(job: str, request: Request) -> Response:
        """How far a job is; with `Accept: text/event-stream`, events as they come: progress, segment, and its end."""
        one = found(job)
        if _EVENTS in request.headers.get("accept", ""):
            return StreamingResponse(events(jobs, one, lambda: service.stopping), media_type=_EVENTS)
        return JSONResponse(told(jobs, one))

    @app.delete("/jobs/{job}", status_code=204, response_class=Response, responses=_ALL | _NO_JOB)
    def forget(job: str) -> Response:
        """Cancel a job, or forget one that has ended, with all that is known of it."""
        jobs.forget(found(job))
        return Response(status_code=204)

    kinds: dict[int | str, dict[str, Any]] = {200: {"content": {kind: {} for kind in _FORMS.values()}}}

    @app.get(
        "/jobs/{job}/result.{form}",
        response_class=Response,
        responses=_ALL | _NO_JOB | _errors(_409="The job is not done.") | kinds,
    )
    def result(job: str, form: Literal["json", "csv", "vtt", "srt"]) -> Response:
        """What came out, as a file as `mmadfer predict --out` writes it."""
        one = found(job)
        if one.state != DONE or one.prediction is None:
            raise HttpError(409, f"the job is {one.state}: there is a result of one that is done")
        with tempfile.TemporaryDirectory(dir=service.folder) as folder:
            path = Path(folder) / f"prediction.{form}"
            write_results(path, [one.prediction], one.recogniser.contract, one.recogniser.tells_people_apart)
            data = path.read_bytes()
        return Response(
            data,
            media_type=_FORMS[form],
            headers={"content-disposition": f'attachment; filename="prediction.{form}"'},
        )


def _add_token(app: FastAPI, service: Service) -> None:
    """Tell of the token in the description, where one is needed."""
    if service.limits.token is None:
        return
    described = app.openapi

    def with_token() -> dict[str, Any]:
        found = described()
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
        found["paths"]["/health"]["get"]["security"] = []
        return found

    app.openapi = with_token  # type: ignore[method-assign]  # as FastAPI's documentation has it
