"""A flight check: a tiny job goes through every part of a site, in truth, and nothing of it stays.

Everything that it makes has names of its own, and a note of them is durable in the spool before the first is used. So
what a check leaves that was killed is known, and the next one removes it.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from nightmill.execution.claims import sync_folder
from nightmill.execution.journal import SpoolAway
from nightmill.execution.owner import is_alive, this_process
from nightmill.execution.probing import FlightFailed
from nightmill.operations.acts import operator
from nightmill.operations.flight.check import Flight
from nightmill.operations.flight.note import FOLDER, PREFIX, STALE_SECONDS, UNNAMED, Note, note_of, notes
from nightmill.operations.site import Site

__all__ = ["Flight", "FlightFailed", "begin", "clean"]


def begin(site: Site, *, places: int = 1) -> Flight:
    """Begin a check of a site; clear it when it has ended.

    Parameters
    ----------
    places
        How many jobs it has.

    Raises
    ------
    RequestRefused
        Where the site names its operators, and the user is none of them.
    SpoolAway
        Where the spool cannot be written: nothing was tried then.
    """
    operator(site.config, "doctor --flight")
    name = f"{PREFIX}{token_hex(8)}"
    stores = tuple([store.name for store in site.config.stores.values() if not store.read_only])
    note = Note(name=name, owner=this_process(), stores=stores, places=places)
    path = note_of(site.config.spool, name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unnamed = path.with_suffix(UNNAMED)
        with unnamed.open("x") as file:
            file.write(note.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        unnamed.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        raise SpoolAway(
            f"the spool {site.config.spool} cannot be written: {error.strerror}",
            remedy="make room in it, mend its disk, or see who may write there",
        ) from error
    return Flight(site, note)


def clean(site: Site) -> list[str]:
    """Remove what checks of this host left that were killed, and return their names; those of other hosts after a day.

    Raises
    ------
    StoreError
        Where a store cannot be used.
    """
    cleaned = []
    for path in sorted(notes(site.config.spool)):
        with suppress(FileNotFoundError):  # its check has ended meanwhile
            left = Flight(site, Note.model_validate_json(path.read_bytes()))
            if is_alive(left.note.owner) is False or _is_stale(path):
                left.clear()
                cleaned.append(left.note.name)
    for path in (site.config.spool / FOLDER).glob(f"*{UNNAMED}"):
        with suppress(FileNotFoundError):
            if _is_stale(path):
                path.unlink()
    return cleaned


def _is_stale(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > STALE_SECONDS
