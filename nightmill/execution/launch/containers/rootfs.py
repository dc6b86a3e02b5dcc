"""The identity of an unpacked image: a digest over everything in its folder, which anybody can work out again.

It is the SHA-256 of a list of records, one for each file, link and folder below the image, in the order of the bytes of
their paths. A record is its kind (``f``, ``l``, ``d``; ``o`` for any other), its permissions as an octal number, the
SHA-256 of its bytes (of a link, what it says; of others nothing) and its path, each with a zero byte after it.

``python -m nightmill.execution.launch.containers.rootfs FOLDER`` prints it.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from hashlib import file_digest, sha256
from pathlib import Path

from nightmill.errors import RequestRefused
from nightmill.model.container import ImageCopy

Facts = os.stat_result


def digest_of_folder(folder: Path) -> str:
    """Return the digest of an unpacked image, as ``sha256:...``; every byte of it is read.

    Raises
    ------
    OSError
        Where something of it cannot be read.
    """
    return f"sha256:{_listed(folder, _content)}"


def must_be(image: str, copy: ImageCopy, cache: Path) -> None:
    """See that a folder holds an image as it is said to lie there.

    All of it is read once on a host, and again where the size, the times, the permissions or the number of anything in
    it are not what they were then.

    Parameters
    ----------
    cache
        Folder for what was found; made where it is missing.

    Raises
    ------
    RequestRefused
        Where it does not, or cannot be read.
    """
    folder, note = copy.path, cache / f"{copy.digest.removeprefix('sha256:')}.image"
    try:
        before = _listed(folder, _looks)
        if note.is_file() and note.read_text() == before:
            return
        found = digest_of_folder(folder)
        if found != copy.digest:
            raise RequestRefused(
                f"image {image}: the folder {folder} is not what its digest says: it has {found}",
                remedy="unpack the image anew, or name the folder of that image under containers.images",
            )
        cache.mkdir(parents=True, exist_ok=True)
        part = note.with_suffix(f".{os.getpid()}")
        part.write_text(before)  # what changed while it was read has another look the next time
        part.replace(note)
    except OSError as error:
        raise RequestRefused(
            f"image {image}: {error.filename or folder} cannot be read or noted: {error.strerror}"
        ) from error


def _listed(folder: Path, told: Callable[[bytes, Facts], bytes]) -> str:
    """Return the SHA-256 of the records of a folder, with what is told of each path."""
    whole = sha256()
    root = os.fsencode(folder)
    for path, facts in sorted(_walk(root), key=lambda each: each[0]):
        kind = stat.S_IFMT(facts.st_mode)
        letter = {stat.S_IFREG: b"f", stat.S_IFLNK: b"l", stat.S_IFDIR: b"d"}.get(kind, b"o")
        mode = b"%o" % stat.S_IMODE(facts.st_mode)
        whole.update(b"".join(part + b"\0" for part in (letter, mode, told(path, facts), path[len(root) + 1 :])))
    return whole.hexdigest()


def _walk(folder: bytes) -> Iterator[tuple[bytes, Facts]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry.path, entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path)


def _content(path: bytes, facts: Facts) -> bytes:
    if stat.S_ISLNK(facts.st_mode):
        return sha256(os.readlink(path)).hexdigest().encode()  # noqa: PTH115 - a path of bytes
    if not stat.S_ISREG(facts.st_mode):
        return b""
    with open(path, "rb") as file:  # noqa: PTH123 - a path of bytes
        return file_digest(file, "sha256").hexdigest().encode()


def _looks(_path: bytes, facts: Facts) -> bytes:
    return b"%d %d %d %d %d" % (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)


if __name__ == "__main__":
    sys.stdout.write(f"{digest_of_folder(Path(sys.argv[1]))}\n")
