"""How the steps of a site are confined, as its document says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from nightmill.model.confinement import Confinement, NodeConfinement

_SQLITE: Final = "sqlite:///"
_BESIDE: Final = ("", "-wal", "-shm", "-journal")
"""What SQLite has beside a database, and the database."""


def confinement_of(said: Confinement, folder: Path, closed: Iterable[Path], database_url: str) -> NodeConfinement:
    """Return what a node needs to know.

    Parameters
    ----------
    folder
        That of the site: relative paths begin there.
    closed
        What steps never reach, beside the database.
    """
    reads = tuple([folder / path.expanduser() for path in said.reads])
    own = said.model_dump() | {"reads": reads}
    return NodeConfinement(**own, closed=(*closed, *_files_of(database_url)))


def _files_of(database_url: str) -> Iterator[Path]:
    if database_url.startswith(_SQLITE):
        path = database_url.removeprefix(_SQLITE).partition("?")[0]
        yield from (Path(path + suffix) for suffix in _BESIDE)
