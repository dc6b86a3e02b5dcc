"""Files that lie in a store of the site: named as they lie there, and brought here for as long as they are read."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import unquote, urlsplit

from nightmill.errors import RequestRefused, StoredFileMissing
from nightmill.model.ports import Stager
from nightmill.model.store import Store
from nightmill.operations.ingest.arrivals import Lying, Offered, Refused
from nightmill.operations.ingest.finding import Found
from nightmill.operations.site import Site

LOT_BYTES: Final = 4 << 30
"""So much is brought here at a time, or one file."""
FOLDER: Final = ".ingest-"
"""How the names of the folders begin, in the scratch of the site, that files are brought into."""
_PLACE: Final = re.compile(r"(?P<store>[^/:]+):(?P<path>(?!/).*)", re.DOTALL)
_URL: Final = re.compile(r"(?P<scheme>[a-z0-9]+):/+(?:[^/@]*@)?(?P<rest>.*)", re.DOTALL)


@dataclass
class Places:
    """What paths that were given name."""

    here: list[Path] = field(default_factory=list)
    """Paths of this host."""
    far: list[tuple[str, str]] = field(default_factory=list)
    """Stores that are not folders, and paths in them; an empty one for all of a store."""
    stores: list[str] = field(default_factory=list)
    """The stores that were named, folders or not."""


def named_places(paths: Sequence[Path], stores: Mapping[str, Store]) -> Places:
    """Tell the paths of this host from those that name a file or a folder of a store: ``STORE:PATH``, or its URL.

    What is in a store that is a folder has a path of this host.

    Raises
    ------
    RequestRefused
        Where a URL is of none of the stores.
    """
    places = Places()
    for path in paths:
        place = None if os.path.lexists(path) else _place(str(path), stores)
        if place is None:
            places.here.append(path)
            continue
        name, inside = place
        places.stores.append(name)
        if (folder := stores[name].folder) is not None:
            places.here.append(folder / inside)
        else:
            places.far.append(place)
    return places


def _place(text: str, stores: Mapping[str, Store]) -> tuple[str, str] | None:
    named = _PLACE.fullmatch(text)
    if named and named["store"] in stores:
        return named["store"], named["path"].strip("/")
    url = _URL.fullmatch(text)
    if not url:
        return None
    for name, store in stores.items():
        parts = urlsplit(store.url)
        base = f"{parts.netloc.rpartition('@')[2]}{unquote(parts.path)}".rstrip("/")
        if parts.scheme == url["scheme"] and f"{url['rest']}/".startswith(f"{base}/"):
            return name, url["rest"].removeprefix(base).strip("/")
    raise RequestRefused(
        f"{text}: no store of the site is there",
        remedy="make a store of it in nightmill.yaml, and type 'nightmill init' in the site's folder",
    )


def find_in(stager: Stager, store: str, path: str, found: Found) -> None:
    """Add what lies in a store under a path: a file, or every file below it; hidden ones are told and passed over.

    Raises
    ------
    StoreError
        Where the store cannot be used, or has no lists.
    """
    size = stager.size(path) if path else None
    if size is not None:
        found.far.append(Lying(store, path, size))
        return
    for each, size_bytes in sorted(stager.list(path)):
        if any(part.startswith(".") for part in each.removeprefix(path).split("/")):
            found.hidden.append(Path(f"{store}:{each}"))
        else:
            found.far.append(Lying(store, each, size_bytes))


def far_lots(files: Sequence[Lying], most: int) -> Iterator[list[Lying]]:
    """Yield the files in lots of at most so many, and of at most so many bytes as there should be room for."""
    lot: list[Lying] = []
    for file in files:
        if lot and (len(lot) == most or sum(each.size_bytes for each in lot) + file.size_bytes > LOT_BYTES):
            yield lot
            lot = []
        lot.append(file)
    if lot:
        yield lot


@contextmanager
def brought_here(site: Site, files: Sequence[Lying], pool: Executor) -> Iterator[tuple[list[Offered], list[Refused]]]:
    """Bring files into a folder of the scratch for as long as the context; give them, and those that are gone.

    Raises
    ------
    StoreError
        Where a store cannot be used.
    """
    _remove_left(site.config.scratch)
    with TemporaryDirectory(prefix=FOLDER, dir=site.config.scratch) as folder, _locked(folder):

        def bring(number: int, file: Lying) -> Offered | Refused:
            target = Path(folder, str(number), file.path.rpartition("/")[2])
            target.parent.mkdir()
            try:
                with site.moving(file.store) as stager:
                    stager.fetch(file.path, target)
            except StoredFileMissing as error:
                return Refused(file.shown, "missing", str(error))
            return Offered(target, "", file)

        came = list(pool.map(bring, range(len(files)), files))
        offered = [each for each in came if isinstance(each, Offered)]
        yield offered, [each for each in came if isinstance(each, Refused)]


def _remove_left(scratch: Path) -> None:
    """Remove the folders of processes that died."""
    for path in scratch.glob(f"{FOLDER}*"):
        with suppress(OSError), _locked(path):
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _locked(folder: str | Path) -> Iterator[None]:
    """Have a folder for oneself, or raise BlockingIOError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
