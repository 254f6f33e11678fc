"""What names say: one spelling of each, the kind of a file by its ending, and words that stand for no name."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from os.path import splitext

VIDEO_SUFFIXES = (
    ".mp4", ".webm", ".mkv", ".avi", ".mov", ".flv", ".m4v", ".mpg", ".mpeg", ".mpe", ".ts", ".mts", ".m2ts", ".m2v",
    ".vob", ".wmv", ".asf", ".3gp", ".3g2", ".ogv", ".ogm", ".f4v", ".qt", ".mxf", ".divx", ".dv", ".mjpeg", ".mjpg",
    ".h264", ".264", ".h265", ".265", ".hevc",
)  # fmt: skip
"""Endings by which a folder's films are known, in lower case; a file that is named itself may have any."""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
SOUND_SUFFIXES = (".wav", ".flac", ".m4a", ".aac", ".mp3", ".ogg", ".opus", ".mp4")
"""Of a clip's own file with sound; the first that is there is taken."""
EMPTY = frozenset({"", "nan", "-nan", "na", "n/a", "#n/a", "#na", "<na>", "nat", "null", "none"})
"""What programs write for a value that is missing, in lower case; pandas reads nearly all of these as one."""


def is_film(name: str) -> bool:
    """Whether a file is a film by its ending."""
    return splitext(name)[1].lower() in VIDEO_SUFFIXES


def is_image(name: str) -> bool:
    """Whether a file is an image by its ending."""
    return splitext(name)[1].lower() in IMAGE_SUFFIXES


def is_empty(text: str) -> bool:
    """Whether a cell of a table, without blanks around it, says that there is no value."""
    return text.casefold() in EMPTY


def in_utf8(text: str) -> str:
    """The text with what is no UTF-8 escaped, as `\\udce9`: a file's name may have any bytes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def one_form(text: str) -> str:
    """The text with each accented letter as one sign (Unicode's NFC).

    macOS writes an accent as a sign of its own, other systems the letter with it; both look alike.
    """
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def alike(names: Iterable[str], what: str) -> tuple[str, ...]:
    """Notes on different names that are the same but for case, blanks, or forms of a letter; `what` they are."""
    groups = defaultdict[str, list[str]](list)
    for name in dict.fromkeys(names):
        groups["".join(unicodedata.normalize("NFKC", name).casefold().split())].append(name)
    return tuple(
        f"{what} that differ only in case or blanks are separate ones: {', '.join(map(repr, same))}"
        for same in groups.values()
        if len(same) > 1
    )
