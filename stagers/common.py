"""What stagers have in common: paths inside of a store, temporary names, local files that come, and patience."""

from __future__ import annotations

import os
import time
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from nightmill.errors import NameCollision, StoredFileMissing, StoreError
from nightmill.model.store import Store

PAUSES_SECONDS: Final = (0.25, 1.0, 3.0)
"""How long a stager waits before it tries once more what failed for the moment."""
PROGRESS_BYTES: Final = 1 << 20
"""What a try must bring for the next to be as good as the first."""


def is_inside(path: str) -> bool:
    """Whether a path of a store stays in it, and is not the temporary name of an upload."""
    parts = path.split("/")
    return "\0" not in path and not any(part in ("", ".", "..") for part in parts) and not is_temporary(parts[-1])


def is_temporary(name: str) -> bool:
    """Whether a file's name is that of an upload that was not revealed."""
    return name.startswith(".") and name.endswith(".part")


def temporary_name(name: str, attempt: str) -> str:
    """Return the temporary name of an upload, which is short enough however long the file's own name is."""
    return f".{attempt}.{sha256(os.fsencode(name)).hexdigest()[:16]}.part"


def attempt_of(temporary: str) -> str:
    """Return the attempt that a temporary name is of."""
    return temporary[1:].rpartition(".part")[0][:-17]


def outside(path: str, store: Store) -> StoreError:
    """Say that a path leads out of a store."""
    return StoreError(f"{path!r} is not a path inside of store {store.name!r}")


def collision(path: str, store: Store) -> NameCollision:
    """Say that a name is taken in a store."""
    return NameCollision(
        f"store {store.name!r} already holds {path!r}; it was not overwritten",
        remedy="see what it is with 'nightmill show', and change the file type's template",
    )


def missing(doing: str, where: str) -> StoredFileMissing:
    """Say that a file is not in its store."""
    return StoredFileMissing(
        f"cannot {doing} {where}: it is not there", remedy="see where its copies are with 'nightmill show'"
    )


class NewFile:
    """A local file that comes: whole when it is left as a context, or not there.

    Parameters
    ----------
    path
        Where nothing may be yet; the file is for its owner to read.

    Raises
    ------
    OSError
        Where it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        self._file = open(descriptor, "wb", buffering=0)  # noqa: PTH123, SIM115 - a descriptor; closed on leaving

    def write(self, data: bytes | memoryview) -> None:
        """Write what comes next.

        Raises
        ------
        OSError
            Where that is not possible; the error names the file.
        """
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def restart(self) -> None:
        """Begin again with nothing."""
        self._file.seek(0)
        self._file.truncate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is not None:
            self.path.unlink()


class Hash:
    """The SHA-256 of bytes that come."""

    def __init__(self) -> None:
        self._hash = sha256()

    def write(self, data: bytes) -> None:
        """Take what comes next."""
        self._hash.update(data)

    def restart(self) -> None:
        """Begin again with nothing."""
        self._hash = sha256()

    def digest(self) -> str:
        """Return it as hexadecimal digits."""
        return self._hash.hexdigest()


class Patience:
    """How often what failed for the moment is tried again: a few times, and anew after progress."""

    def __init__(self) -> None:
        self._tries, self._least = 0, PROGRESS_BYTES

    def reached(self, offset: int) -> None:
        """Hear how far one got."""
        if offset >= self._least:
            self._tries, self._least = 0, offset + PROGRESS_BYTES

    def wait(self, least_seconds: float = 0.0) -> bool:
        """Wait before another try, and return True; return False at once where there were enough."""
        if self._tries == len(PAUSES_SECONDS):
            return False
        time.sleep(max(PAUSES_SECONDS[self._tries], least_seconds))
        self._tries += 1
        return True
