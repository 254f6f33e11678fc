"""Who may ask for what, before anything of a request is read: by host, origin and token; and headers of all answers.

A page of a stranger that is open in a browser here can send requests to this machine. Those carry its `Origin`; and
where it had its own name lead here (DNS rebinding), a `Host` that is not ours. Both are refused.
"""

import hmac
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmadfer.serve.limits import LOOPBACK_NAMES, Limits, is_loopback
from mmadfer.serve.metrics import Metrics

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src blob: mediastream:; connect-src 'self'; worker-src 'self'; form-action 'none'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(self), microphone=(self)",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
_OPEN = ("/", "/health")
"""Ways that need no token: they tell nothing of anybody."""
STATIC = "/static/"


class Guard:
    """Around the whole application.

    Args:
        app: the application.
        limits: names and token.
        metrics: counts answers.
    """

    def __init__(self, app: ASGIApp, limits: Limits, metrics: Metrics) -> None:
        self._app, self._limits, self._metrics = app, limits, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refused = self._refused(scope)
        if scope["type"] == "websocket":
            await (send({"type": "websocket.close", "code": 1008}) if refused else self._app(scope, receive, send))
            return
        send = self._counted(scope, send)
        if refused:
            await refused(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refused(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return _error(403, "the Host of the request is none of this server: call it by the address that it prints")
        if not _same_origin(headers.getlist("origin"), hosts[0]):
            return _error(403, "the request comes from another page than this server's own: open the page itself")
        path = scope["path"]
        if scope["type"] == "websocket" or path in _OPEN or path.startswith(STATIC):
            return None
        if headers.get("sec-fetch-site") == "cross-site":
            return _error(403, "the request comes from another page than this server's own: open the page itself")
        if not token_is(self._limits, _bearer(headers.get("authorization", ""))):
            return _error(401, "the token is missing or another one: send `Authorization: Bearer TOKEN`")
        return None

    def _is_ours(self, host: str) -> bool:
        """A server for other machines has a token, and is called by names that it does not know."""
        name = _name_of(host)
        limits = self._limits
        if name is None:
            return False
        return not is_loopback(limits.host) or name in {*LOOPBACK_NAMES, limits.host.lower(), *limits.names}

    def _counted(self, scope: Scope, send: Send) -> Send:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if not scope["path"].startswith(STATIC):
                    headers.setdefault("cache-control", "no-store")
                route = getattr(scope.get("route"), "path", "other")
                self._metrics.requests.labels(route, _method(scope["method"]), message["status"]).inc()
            await send(message)

        return counted


def token_is(limits: Limits, given: str | None) -> bool:
    """Whether a token is the server's, or it needs none; the time that this takes tells nothing of it."""
    if limits.token is None:
        return True
    return given is not None and hmac.compare_digest(given.encode("utf-8", "replace"), limits.token.encode())


def _bearer(header: str) -> str | None:
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _name_of(host: str) -> str | None:
    """Of a `Host` or the end of an `Origin`, without its port; None where it is none."""
    try:
        parts = urlsplit(f"//{host}")
        return parts.hostname if parts.port is None or parts.port >= 0 else None
    except ValueError:
        return None


def _same_origin(origins: Iterable[str], host: str) -> bool:
    """Whether a request is of no page, or of one of this server: of its very host and port."""
    return all(origin.partition("://")[2].lower() == host.lower() for origin in origins)


def _method(method: str) -> str:
    return method if method in ("GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH") else "other"


def _error(status: int, told: str) -> JSONResponse:
    headers = {"www-authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error": told}, status, headers)
