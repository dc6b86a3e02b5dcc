"""What a flight check notes in the spool before it makes anything: what it will make, and who it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nightmill.execution.scratch import token
from nightmill.model.base import Frozen
from nightmill.model.journal import Owner
from nightmill.model.order import AttemptKey

FOLDER: Final = "flight"
"""In the spool: a note and a folder for each check that is under way, or was killed."""
PREFIX: Final = "nightmill-flight-"
"""So begins the name of everything that a check makes."""
NOTE: Final = ".json"
UNNAMED: Final = ".new"
STALE_SECONDS: Final = 86_400.0
"""A note that is so old is of a check that was killed, also where its host cannot be asked: none takes so long."""


class Note(Frozen):
    """What a check makes, and who it is."""

    name: str
    """In the name of everything that it makes."""
    owner: Owner
    stores: tuple[str, ...]

    @property
    def attempt(self) -> AttemptKey:
        """What its job calls itself."""
        return attempt_of(self.name)

    @property
    def files(self) -> tuple[str, ...]:
        """The paths that it may have in a store."""
        return tuple([f"{self.name}.{end}" for end in ("bin", "tar", "out", "log")])


def note_of(spool: Path, name: str) -> Path:
    """Return where the note of a check is."""
    return spool / FOLDER / f"{name}{NOTE}"


def notes(spool: Path) -> Iterator[Path]:
    """Yield the notes of checks that make something now, or were killed and are to be cleaned up after."""
    return (spool / FOLDER).glob(f"{PREFIX}*{NOTE}")


def names_noted(spool: Path) -> set[str]:
    """Return what the uploads and scratches of these checks, and the files of their stores up to a dot, are called."""
    names = {path.stem for path in notes(spool)}
    return names | {token(attempt_of(name)) for name in names}


def attempt_of(name: str) -> AttemptKey:
    """Return what the job of a check calls itself."""
    return AttemptKey(campaign=name, stage=FOLDER, unit="check=1", number=1)
