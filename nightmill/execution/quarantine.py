"""Journals that are set apart because they are damaged, or tell what cannot be so.

They lie in ``quarantine/`` of the spool, each beside a text that says why: ``NAME.jsonl`` and ``NAME.jsonl.why``. A
drain leaves them alone. Moved back into the spool, a journal is drained again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Final

QUARANTINE: Final = "quarantine"
"""Folder of the spool."""
WHY: Final = ".why"


@dataclass(frozen=True)
class Quarantined:
    """A journal that was set apart."""

    path: Path
    why: tuple[str, ...]
    """What is wrong with it and what to do, a sentence a thing."""

    def __str__(self) -> str:
        return f"journal {self.path}: {'; '.join(self.why) or 'nothing says why'}"


def put_in(path: Path, why: Sequence[str]) -> Quarantined:
    """Set a journal apart; one of the same name that lies there already keeps its own.

    The reasons are there before the journal is, so that no journal is ever without. A process that still writes it goes
    on writing it.
    """
    folder = path.parent / QUARANTINE
    folder.mkdir(exist_ok=True)
    names = chain([path.name], (f"{path.stem}.{number}{path.suffix}" for number in count(2)))
    target = next(folder / name for name in names if not (folder / name).exists())
    _why(target).write_text("".join(reason + "\n" for reason in why))
    path.rename(target)
    return Quarantined(target, tuple(why))


def quarantined(spool: Path) -> Iterator[Quarantined]:
    """Yield the journals of a spool that were set apart, oldest first."""
    for path in sorted((spool / QUARANTINE).glob("*.jsonl")):
        text = ""
        with suppress(OSError):
            text = _why(path).read_text()
        yield Quarantined(path, tuple(text.splitlines()))


def _why(path: Path) -> Path:
    return path.with_name(path.name + WHY)
