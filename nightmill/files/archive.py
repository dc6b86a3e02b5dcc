"""Reading the archive of a folder: nothing in it can lead anywhere but below the folder that it is unpacked to."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Final

from nightmill.errors import BadFile
from nightmill.model.bundle import BundleFile

MAX_FILES: Final = 10_000
"""Of one archive: each of them is looked at after each step."""
MAX_PATH_BYTES: Final = 1000
MAX_NAME_BYTES: Final = 255
_CHUNK: Final = 1 << 20


def unfit_name(path: str) -> str:
    """Say why a path cannot stand in an archive, or an empty string."""
    parts = path.split("/")
    if not path.isprintable():
        return "control characters, and bytes that are not text, cannot stand in a name"
    if any(part in ("", ".", "..") for part in parts):
        return "it leads elsewhere"
    if "\\" in path:
        return "a backslash cannot stand in a name"
    if len(path.encode()) > MAX_PATH_BYTES or any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        return f"its path is longer than {MAX_PATH_BYTES} bytes, or a name in it longer than {MAX_NAME_BYTES}"
    return ""


@dataclass(frozen=True)
class Member:
    """A file of an archive, for as long as the next one is not asked for."""

    path: str
    executable: bool
    content: IO[bytes]


def members(archive: IO[bytes]) -> Iterator[Member]:
    """Yield the files of an archive, from its beginning.

    Raises
    ------
    BadFile
        Where it holds anything but files with fit names, each once, or is not whole.
    """
    seen: set[str] = set()
    try:
        archive.seek(0)
        with tarfile.open(fileobj=archive, mode="r:", encoding="utf-8") as tar:
            for info in tar:
                content = tar.extractfile(info) if info.isreg() else None
                if content is None or unfit_name(info.name) or info.name in seen or len(seen) >= MAX_FILES:
                    raise BadFile(f"it holds {info.name!r}, which cannot be unpacked", reason="unreadable")
                seen.add(info.name)
                yield Member(info.name, bool(info.mode & 0o100), content)
    except tarfile.TarError as error:
        raise BadFile(f"it is not a whole archive: {error}", reason="truncated") from error


def read_manifest(archive: IO[bytes]) -> tuple[BundleFile, ...]:
    """Return what is in an archive.

    Raises
    ------
    BadFile
        As :func:`members` does.
    """
    return tuple([_copied(member, None) for member in members(archive)])


def unpack(archive: IO[bytes], folder: Path) -> tuple[BundleFile, ...]:
    """Unpack an archive into a new folder, read-only: files have the mode 444 or 555, folders 555.

    Returns
    -------
    tuple of BundleFile
        What was written.

    Raises
    ------
    BadFile
        As :func:`members` does.
    OSError
        Where the folder cannot be written, or is there already.
    """
    folder.mkdir()
    folders = {"": folder}
    files = []
    for member in members(archive):
        above, _, _name = member.path.rpartition("/")
        if above not in folders:
            folders[above] = folder / above
            folders[above].mkdir(parents=True, exist_ok=True)
        target = os.open(f"{folder}/{member.path}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            files.append(_copied(member, target))
            os.fchmod(target, 0o555 if member.executable else 0o444)
        finally:
            os.close(target)
    for inner in sorted(folders_of(files), reverse=True):
        (folder / inner).chmod(0o555)
    return tuple(files)


def folders_of(files: list[BundleFile] | tuple[BundleFile, ...]) -> set[str]:
    """Return the paths of all folders that files lie in, the top one, which is empty, included."""
    folders = {""}
    for file in files:
        above = file.path.rpartition("/")[0]
        while above not in folders:
            folders.add(above)
            above = above.rpartition("/")[0]
    return folders


def _copied(member: Member, target: int | None) -> BundleFile:
    digest, size_bytes = sha256(), 0
    while data := member.content.read(_CHUNK):
        digest.update(data)
        size_bytes += len(data)
        while target is not None and data:
            data = data[os.write(target, data) :]
    return BundleFile(path=member.path, size_bytes=size_bytes, sha256=digest.hexdigest(), executable=member.executable)
