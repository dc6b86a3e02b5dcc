"""What goes on record of a failure: short text that a person can read and any database can keep."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import re2

EVIDENCE_LINES: Final = 5
AFTER_LINES: Final = 3
"""After the first line that tells of an error, so many are shown."""
LINE_CHARACTERS: Final = 500
EVIDENCE_BYTES: Final = 4000
LOG_BYTES: Final = 1 << 20
"""The last of a log that rules of a site look at."""

_COLOURS: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_ERROR: Final = re.compile(
    r"^Traceback \(most recent call last\):\n(?:[ \t].*\n)*(?P<raised>\S)"  # what a Python program raised first
    r"|^(?:.{0,100}[^\w\n])?(?:ERROR|FATAL|CRITICAL)\b(?! *=)|\*Error\*"
    r"|^[^\w\n]*(?:[Ff]atal )?[Ee]rror\b ?:|^[\w.]+(?:Error|Exception):"
    r"|Segmentation fault|core dumped|terminate called|command not found|No space left on device",
    re.MULTILINE,
)
_UNFIT: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def readable(text: str) -> str:
    """Return a text without terminal colours; what cannot be seen becomes U+FFFD.

    That is a control character, one that ends a line or turns its direction, or a byte that is not text.
    """
    return _UNFIT.sub("\ufffd", _COLOURS.sub("", text))


def on_one_line(name: str) -> str:
    """Return a file's name as :func:`readable` does; it cannot pass for a second line either."""
    return readable(name).replace("\n", "\ufffd").replace("\t", "\ufffd")


def last_text(log: int, start: int) -> str:
    """Return what rules see of what was written to an open log from the byte ``start`` on."""
    first = max(start, os.fstat(log).st_size - LOG_BYTES)
    return readable(os.pread(log, LOG_BYTES, first).decode(errors="replace"))


def last_lines(log: int, start: int) -> str:
    """Return the last line of what was written to an open log from the byte ``start`` on, and below it the few before.

    The last line comes first because programs say there why they ended, and a list shows the first alone. Lines
    without text do not count.
    """
    return evidence_in(
        "", os.pread(log, EVIDENCE_BYTES, max(start, os.fstat(log).st_size - EVIDENCE_BYTES)).decode(errors="replace")
    )


def evidence_in(begin: str, end: str, patterns: Sequence[re2._Regexp] = ()) -> str:
    """Return what tells best, of what a step that failed has printed, why it did.

    That is the first line that a pattern finds; else the first that says of itself, in one of the common ways, that it
    is an error; with a few lines after it, and the last lines below. Else it is the last line, and below it the few
    before.

    Parameters
    ----------
    begin, end
        The first and the last of it.
    patterns
        Of what the site knows as errors.
    """
    # a bar that is drawn over is a line each time
    texts = [readable(text.replace("\r\n", "\n").replace("\r", "\n")) for text in (begin, end)]
    tail = _shown(texts[1])[-EVIDENCE_LINES:]
    places = [(text, at) for text in texts if (at := _first_known(text, patterns)) is not None]
    places += [(text, at) for text in texts if (at := _first_error(text)) is not None]
    found = _after(*places[0]) if places else []
    if not found or found[0] == tail[-1]:
        *before, last = tail or [""]
        told = [last, "before that:", *before] if before else [last]
    else:
        left = tail[_overlap(found, tail) :]
        told = [*found, *(["at the end:", *left] if left else [])]
    return "\n".join(told)


def _shown(text: str) -> list[str]:
    """Return the lines that have text; of a longer one than a record takes, the begin."""
    lines = [line for line in text.splitlines() if line.strip()]
    return [line if len(line) <= LINE_CHARACTERS else f"{line[:LINE_CHARACTERS]}..." for line in lines]


def _first_known(text: str, patterns: Sequence[re2._Regexp]) -> int | None:
    return min((match.start() for pattern in patterns if (match := pattern.search(text))), default=None)


def _first_error(text: str) -> int | None:
    match = _ERROR.search(text)
    return None if match is None else match.start("raised") if match["raised"] else match.start()


def _after(text: str, at: int) -> list[str]:
    """Return the line of a place, and the few after it."""
    begin = text.rfind("\n", 0, at) + 1
    return _shown(text[begin : begin + EVIDENCE_BYTES])[: 1 + AFTER_LINES]


def _overlap(found: Sequence[str], tail: Sequence[str]) -> int:
    """Return how many of the last lines are among those that were found, at whose end they begin."""
    return next((n for n in range(min(len(found), len(tail)), 0, -1) if list(found[-n:]) == list(tail[:n])), 0)
