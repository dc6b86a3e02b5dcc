"""Taking SQL apart into its statements.

Nothing rests on this but which statement's answer is given: each is handed to the database as one, and a database that
finds two in it refuses.
"""

from __future__ import annotations

import re
from typing import Final

_PIECE: Final = re.compile(
    r"""
    (?P<comment> --[^\n]* ) | (?P<open> /\* )
    | (?<![\w$])[eE]'(?:[^'\\]|\\.|'')*'?  | '(?:[^']|'')*'?  | "(?:[^"]|"")*"?
    | (?<![\w$])(?P<tag> \$(?:[^\W\d]\w*)?\$ )
    | (?P<end> ; )
    | (?P<blank> \s+ )
    | \w+ | .
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT: Final = re.compile(r"/\*|\*/")


def split(text: str) -> list[str]:
    """Split PostgreSQL's SQL at the semicolons that end a statement; what is only blank or a comment is left out."""
    found: list[str] = []
    start = at = 0
    empty = True
    while at < len(text):
        piece = _PIECE.match(text, at)
        assert piece is not None
        at = piece.end()
        match piece.lastgroup:
            case "open":
                at = _after_comment(text, at)
            case "tag":
                closed = text.find(piece["tag"], at)
                at = len(text) if closed < 0 else closed + len(piece["tag"])
                empty = False
            case "end":
                if not empty:
                    found.append(text[start : piece.start()])
                start, empty = at, True
            case None:
                empty = False
            case _:
                pass  # a comment or blanks
    return found if empty else [*found, text[start:]]


def _after_comment(text: str, at: int) -> int:
    """Return where the comment ends that began before; there may be others in it."""
    depth = 1
    for mark in _COMMENT.finditer(text, at):
        depth += 1 if mark[0] == "/*" else -1
        if not depth:
            return mark.end()
    return len(text)
