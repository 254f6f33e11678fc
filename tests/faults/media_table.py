"""All kinds of the matrix of media."""

import media_clocks
import media_kinds
import media_streams
from media_kinds import Kind


def kinds() -> list[Kind]:
    """Each has a name of its own."""
    found = [*media_kinds.plain(), *media_clocks.kinds(), *media_streams.kinds()]
    assert len({kind.name for kind in found}) == len(found)
    return found
