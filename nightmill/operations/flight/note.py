"""What a flight check notes in the spool before it makes anything: what it will make, and who it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from nightmill.execution.probing import path_tried
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
    places: int = 1
    """How many jobs it has: one a place of an engine."""

    @property
    def attempt(self) -> AttemptKey:
        """What its job calls itself, or the first of them."""
        return attempt_of(self.name)

    @property
    def attempts(self) -> tuple[AttemptKey, ...]:
        """What its jobs call themselves."""
        return tuple([attempt_of(self.name, place) for place in range(1, self.places + 1)])

    def made(self, place: int) -> tuple[str, str]:
        """Return the paths of the output and of the log of a job, counted from 1."""
        which = "" if place == 1 else str(place)
        return f"{self.name}.out{which}", f"{self.name}.log{which}"

    @property
    def files(self) -> tuple[str, ...]:
        """The paths that it may have in a store."""
        made = [path for place in range(1, self.places + 1) for path in self.made(place)]
        return (f"{self.name}.bin", f"{self.name}.tar", *made, *map(path_tried, self.attempts))


def note_of(spool: Path, name: str) -> Path:
    """Return where the note of a check is."""
    return spool / FOLDER / f"{name}{NOTE}"


def notes(spool: Path) -> Iterator[Path]:
    """Yield the notes of checks that make something now, or were killed and are to be cleaned up after."""
    return (spool / FOLDER).glob(f"{PREFIX}*{NOTE}")


def names_noted(spool: Path) -> set[str]:
    """Return what the uploads and scratches of these checks, and the files of their stores up to a dot, are called."""
    names = set()
    for path in notes(spool):
        with suppress(FileNotFoundError):  # its check has ended meanwhile
            note = Note.model_validate_json(path.read_bytes())
            names |= {note.name, *map(token, note.attempts)}
    return names


def attempt_of(name: str, place: int = 1) -> AttemptKey:
    """Return what the job of a check calls itself, at a place of an engine."""
    return AttemptKey(campaign=name, stage=FOLDER, unit=f"check={place}", number=1)
