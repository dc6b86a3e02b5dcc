"""Finding the files below the paths that were given, and telling of everything there that is not taken."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISDIR, S_ISLNK

from nightmill.files.reading import link_refused
from nightmill.operations.ingest.arrivals import Lying, Offered, Refused


@dataclass
class Found:
    """What lies below some paths."""

    files: list[Offered] = field(default_factory=list)
    """Those given, and all below the folders given: sorted in each, and each once."""
    far: list[Lying] = field(default_factory=list)
    """The same of what lies in stores that are not folders."""
    refused: list[Refused] = field(default_factory=list)
    """Links, and folders that cannot be listed."""
    hidden: list[Path] = field(default_factory=list)
    """Files and folders that were passed over: programs give such names to what they are still writing."""


def find_files(paths: Sequence[Path], *, follow_links: bool = False) -> Found:
    """List the files that are given, and all below the folders that are.

    Parameters
    ----------
    follow_links
        Whether symbolic links stand for what they point to; otherwise they are refused, also those that are given.
    """
    search = _Search(follow_links)
    for path in paths:
        search.add(path.absolute())
    found = search.found
    found.files = list({file.path: file for file in found.files}.values())
    return found


class _Search:
    def __init__(self, follow: bool) -> None:
        self.follow = follow
        self.found = Found()
        self.entered: set[tuple[int, int]] = set()
        """Folders, where links are followed: two of them can lead to each other."""

    def add(self, path: Path) -> None:
        if _is(S_ISLNK, path, follow=False) and not self.follow:
            self._refuse_link(path)
            return
        if not _is(S_ISDIR, path, follow=True):
            self._offer(path, _real(path))
            return
        folders = [(path, _real(path))]
        while folders:
            folder, real = folders.pop()
            folders += reversed([(entry, f"{real}/{entry.name}") for entry in self._look_into(folder, real)])

    def _look_into(self, folder: Path, real: str) -> list[Path]:
        """Take the files of a folder, and return the folders in it."""
        inside: list[Path] = []
        try:
            for entry in self._entries(folder):
                path = folder / entry.name
                if entry.name.startswith("."):
                    self.found.hidden.append(path)
                elif entry.is_symlink() and not self.follow:
                    self._refuse_link(path)
                elif _is(S_ISDIR, path, follow=True) if entry.is_symlink() else entry.is_dir():
                    inside.append(path)
                else:
                    self._offer(path, f"{real}/{entry.name}")
        except OSError as error:
            self.found.refused.append(Refused(folder, "unreadable", f"{folder} cannot be listed: {error.strerror}"))
        return inside

    def _entries(self, folder: Path) -> Iterator[os.DirEntry[str]]:
        if self.follow:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in self.entered:
                return
            self.entered.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            yield from sorted(entries, key=lambda entry: entry.name)

    def _offer(self, path: Path, real: str) -> None:
        self.found.files.append(Offered(path, "" if self.follow else real))

    def _refuse_link(self, path: Path) -> None:
        error = link_refused(path)
        self.found.refused.append(Refused(path, error.reason, str(error)))


def _real(path: Path) -> str:
    """Return a path that leads through no link, but for the last part of it."""
    if path.name in ("", ".."):
        return os.path.realpath(path)
    return f"{os.path.realpath(path.parent).rstrip('/')}/{path.name}"


def _is(kind: Callable[[int], bool], path: Path, *, follow: bool) -> bool:
    """Say what a path is; one that cannot be looked at is nothing."""
    try:
        return kind(path.stat(follow_symlinks=follow).st_mode)
    except OSError:
        return False
