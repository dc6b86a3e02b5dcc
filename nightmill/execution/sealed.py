"""Files that no step may change any more: what is an input, and what has passed the gate."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

from nightmill.errors import BadFile
from nightmill.execution.descriptors import opened_file, path_of
from nightmill.execution.evidence import on_one_line
from nightmill.files.archive import folders_of
from nightmill.files.checksum import fingerprint
from nightmill.model.bundle import BundleFile

Facts = tuple[int, ...]
_MODE: Final = 2
"""Place of the mode in these."""


@dataclass
class _Seal:
    what: str
    size_bytes: int
    sha256: str
    facts: Facts


@dataclass
class SealedFolder:
    """The files of a folder of the scratch, as they are to stay."""

    _seals: dict[str, _Seal] = field(default_factory=dict)

    def __contains__(self, name: object) -> bool:
        return name in self._seals

    def seal(self, name: str, what: str, sha256: str, facts: os.stat_result) -> None:
        """Note that a file is as it is to stay.

        Parameters
        ----------
        what
            What a message calls it.
        """
        self._seals[name] = _Seal(what, facts.st_size, sha256, _facts(facts))

    def write(self, name: str, what: str, data: bytes, within: int) -> os.stat_result:
        """Write a new file, read-only, note that it is to stay so, and return what is to be seen of it."""
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o444, dir_fd=within)
        with open(descriptor, "wb") as target:  # noqa: PTH123 - a descriptor
            target.write(data)
        facts = os.stat(name, dir_fd=within, follow_symlinks=False)
        self.seal(name, what, sha256(data).hexdigest(), facts)
        return facts

    def broken(self, within: int) -> str:
        """Look at each file, and read again those that were touched, and say what was changed, or an empty string.

        It costs one look at each file: what was written, linked, renamed or replaced has another time of change, which
        only the kernel sets. A file that was touched and has the same bytes is sealed anew.
        """
        for name, seal in self._seals.items():
            try:
                facts = os.stat(name, dir_fd=within, follow_symlinks=False)
                if _facts(facts) == seal.facts:
                    continue
                with opened_file(name, within) as descriptor:
                    seal.facts = _facts(os.fstat(descriptor))
                    size_bytes, digest = fingerprint(path_of(descriptor))
            except FileNotFoundError:
                return f"{seal.what}: it is not there any more"
            except BadFile as error:
                return f"{seal.what}: {error.message} now"
            if size_bytes != seal.size_bytes:
                return f"{seal.what}: it has {size_bytes} bytes now, and had {seal.size_bytes}"
            if digest != seal.sha256:
                return f"{seal.what}: its bytes have changed"
        return ""


def _facts(facts: os.stat_result) -> Facts:
    return facts.st_dev, facts.st_ino, facts.st_mode, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


class SealedTree:
    """A folder with all that is below it, as it is to stay.

    Parameters
    ----------
    path
        The folder, read-only and used by nobody else.
    files
        What is in it.
    called
        What messages call it.
    """

    def __init__(self, path: Path, files: Sequence[BundleFile], called: str) -> None:
        self.path = path
        self._called = called
        self._files = {file.path: file for file in files}
        places = {name: f"{path}/{name}".rstrip("/") for name in [*folders_of(tuple(files)), *self._files]}
        self._facts = {name: (place, _facts(os.lstat(place))) for name, place in sorted(places.items())}
        self._names = {name: _names_in(places[name]) for name in places if name not in self._files}

    def broken(self) -> str:
        """Look at each file and folder, and read again those that were touched; say what was changed, or nothing.

        It costs one look at each. What was touched and is the same as before is sealed anew.
        """
        for name, (place, before) in self._facts.items():
            try:
                facts = os.lstat(place)
                if _facts(facts) == before:
                    continue
                if not (why := self._changed(name, place, facts, before[_MODE])):
                    self._facts[name] = place, _facts(facts)
            except (FileNotFoundError, NotADirectoryError):
                why = "it is not there any more"
            except BadFile as error:
                why = f"{error.message} now"
            if why:
                what = f"{self._called}/{name}".rstrip("/")
                return f"{what}: {why}"
        return ""

    def _changed(self, name: str, place: str, facts: os.stat_result, mode: int) -> str:
        if facts.st_mode != mode:
            now = stat.filemode(facts.st_mode)
            return f"it is {now} now, and was {stat.filemode(mode)}"
        if name in self._names:
            there, known = _names_in(place), self._names[name]
            told = [f"{on_one_line(each)!r} was added" for each in sorted(there - known)]
            return ", ".join([*told, *(f"{each!r} is not there any more" for each in sorted(known - there))])
        size_bytes, digest = fingerprint(place)
        file = self._files[name]
        if size_bytes != file.size_bytes:
            return f"it has {size_bytes} bytes now, and had {file.size_bytes}"
        return "" if digest == file.sha256 else "its bytes have changed"

    def copy_to(self, folder: Path) -> None:
        """Copy it to a new folder, for somebody to change."""
        for name in self._names:
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name, file in self._files.items():
            shutil.copyfile(self.path / name, folder / name)
            (folder / name).chmod(0o755 if file.executable else 0o644)


def _names_in(folder: str) -> frozenset[str]:
    return frozenset(os.listdir(folder))  # noqa: PTH208 - names, not paths
