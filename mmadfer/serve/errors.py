"""What is wrong with a request, in words for its client."""

import re

_OPTIONS = re.compile(r"--(?=(window|hop|faces|sound)\b)")


def in_fields(told: str) -> str:
    """An error with the fields of a form in place of the command's options."""
    return _OPTIONS.sub("", told)


class HttpError(Exception):
    """Answered with a status and `{"error": …}`.

    Args:
        status: of HTTP.
        told: what is wrong, the rule, and what to do.
        headers: of the answer.
    """

    def __init__(self, status: int, told: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(told)
        self.status, self.told, self.headers = status, told, headers or {}
