"""What goes on record of a failure: short text that a person can read and any database can keep."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

EVIDENCE_LINES: Final = 5
EVIDENCE_BYTES: Final = 4000

_COLOURS: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_UNFIT: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def readable(text: str) -> str:
    """Return a text without terminal colours; a control character or a byte that is no text becomes U+FFFD."""
    return _UNFIT.sub("\ufffd", _COLOURS.sub("", text))


def last_lines(log: Path, start: int) -> str:
    """Return the last lines that are not empty of what was written to a log from the byte ``start`` on."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - EVIDENCE_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return readable("\n".join([line for line in lines if line.strip()][-EVIDENCE_LINES:]))
