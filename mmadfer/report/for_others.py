"""A page of a report for others: what it says of files are their names."""

import re

_FOLDERS = re.compile(r"(?<![\w.])~?/(?! )(?:[^/<>\n'\"]+/)+(?=[^/\s])")
"""Of an absolute path; folders may have spaces in their names."""
_TAG = re.compile(r"(<(?!!)[^>]*>)")
"""A comment is none: drawings repeat their words in some."""


def without_folders(page: str) -> str:
    """A page in whose words absolute paths have lost their folders; scripts and styles stay as they are."""
    parts = _TAG.split(page)
    for k in range(0, len(parts), 2):  # words are between tags
        if not (k and parts[k - 1].startswith(("<script", "<style"))):
            parts[k] = _FOLDERS.sub("", parts[k])
    return "".join(parts)
