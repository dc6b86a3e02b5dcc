"""What goes on record of a failure: short text that a person can read and any database can keep."""

from __future__ import annotations

import os
import re
from typing import Final

EVIDENCE_LINES: Final = 5
EVIDENCE_BYTES: Final = 4000
LOG_BYTES: Final = 1 << 20
"""The last of a log that rules of a site look at."""

_COLOURS: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_UNFIT: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def readable(text: str) -> str:
    """Return a text without terminal colours; a control character or a byte that is not text becomes U+FFFD."""
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
    end = os.pread(log, EVIDENCE_BYTES, max(start, os.fstat(log).st_size - EVIDENCE_BYTES))
    lines = [line for line in end.decode(errors="replace").splitlines() if line.strip()]
    *before, last = lines[-EVIDENCE_LINES:] or [""]
    return readable("\n".join([last, "before that:", *before] if before else [last]))
