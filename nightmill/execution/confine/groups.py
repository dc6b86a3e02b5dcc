"""Control groups: each process that starts steps has one, in which the kernel counts and limits what a step takes.

Both versions serve. Of the second, the folder that a site names has the controllers ``memory`` and ``pids``; of the
first, it lies under the controller ``memory``, and its namesake under ``pids``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from nightmill.execution.proc import read_kernel

_PREFIX: Final = "nightmill-step-"
_PROCESSES: Final = "cgroup.procs"
_OWN_TASKS: Final = 2
"""What a group has beside the processes and threads of its step: what starts it, with the thread that does."""
_SWAP_BYTES: Final = 2**20
"""What may be swapped with the first version, so that the limit of memory is the one that is met."""
_PATIENCE_SECONDS: Final = 5.0
_ASK_SECONDS: Final = 0.002
_ENTER: Final = ("/bin/sh", "-c", 'echo 0 >"$0" && exec "$@"')
_NOT_YOURS: Final = "give it to the user of the worker, and start the worker in the tree that is that user's"
_REMEDIES: Final = {
    errno.ENOENT: "make it, or have systemd delegate one",
    errno.ENODEV: "name a folder under /sys/fs/cgroup; with the first version, one of the controller memory",
    errno.ENOTSUP: "have memory and pids delegated to it, as by Delegate=memory pids of systemd",
    errno.EBUSY: "it has processes itself, so it cannot be divided: have them in a group in it, as by systemd's"
    " DelegateSubgroup=worker",
    errno.EACCES: _NOT_YOURS,
    errno.EPERM: _NOT_YOURS,
    errno.EROFS: "have control groups mounted so that they can be written",
}


@dataclass(frozen=True)
class _Names:
    """What files of a group are called."""

    limit: str
    swap: str
    """The limit of swap, or of memory and swap together."""
    unlimited: bytes
    usage: str
    caches: tuple[bytes, ...]
    """What of ``memory.stat`` is given back for the asking."""
    reclaim: str
    kills: str
    hits: tuple[str, bytes]
    """Where it is counted how often the limit of memory was reached: a file, and a word in it."""


_FIRST: Final = _Names(
    limit="memory.limit_in_bytes",
    swap="memory.memsw.limit_in_bytes",
    unlimited=b"-1",
    usage="memory.usage_in_bytes",
    caches=(b"total_inactive_file", b"total_active_file"),
    reclaim="memory.force_empty",
    kills="memory.oom_control",
    hits=("memory.failcnt", b""),
)
_SECOND: Final = _Names(
    limit="memory.max",
    swap="memory.swap.max",
    unlimited=b"max",
    usage="memory.current",
    caches=(b"inactive_file", b"active_file"),
    reclaim="memory.reclaim",
    kills="memory.events",
    hits=("memory.events", b"oom"),
)


@dataclass(frozen=True)
class Lack:
    """What a step lacked of memory, as its group tells.

    Parameters
    ----------
    kills
        How many of its processes the kernel killed for that.
    asked_bytes
        What its job asks for, where the step came to that; None where its host, or what is around its group, had none.
    """

    kills: int
    asked_bytes: int | None


class Group:
    """A control group, for one step at a time; without a folder it holds nothing. See :func:`made_in`.

    Parameters
    ----------
    folders
        Where it is: with the first version that of memory, and that of processes.
    by
        What it holds.
    lacking
        What it does not, a sentence each.
    lock
        A descriptor that is locked as long as its worker lives.
    """

    def __init__(
        self, folders: tuple[Path, ...] = (), by: tuple[str, ...] = (), lacking: tuple[str, ...] = (), lock: int = -1
    ) -> None:
        self.folders = folders
        self.by = by
        self.lacking = lacking
        self._lock = lock
        self._names = _SECOND if folders and (folders[0] / _SECOND.limit).exists() else _FIRST
        self._asked: int | None = None
        self._before = 0, 0

    def add(self, pid: int) -> None:
        """Put a process in it; what that starts is born there.

        Raises
        ------
        OSError
            Where its user may not.
        """
        for folder in self.folders:
            _write(folder / _PROCESSES, b"%d" % pid)

    def entering(self, argv: Sequence[str]) -> list[str]:
        """Return the command line of a program that is in it before it begins."""
        for folder in self.folders:
            argv = [*_ENTER, str(folder / _PROCESSES), *argv]
        return list(argv)

    def begin(self, memory_bytes: int | None) -> None:
        """Let the next step take what its job asks for, beside what is in use already; None for any.

        Raises
        ------
        OSError
            Where the kernel does not take the limit.
        """
        if not self.folders:
            return
        if memory_bytes is not None or self._asked is not None:
            self._limit(None if memory_bytes is None else self._room_for(memory_bytes))
        self._asked, self._before = memory_bytes, self._counts()

    def lack(self) -> Lack | None:
        """Return what the last step lacked; None without a folder."""
        if not self.folders:
            return None
        kills, hits = (now - before for now, before in zip(self._counts(), self._before, strict=True))
        return Lack(kills, self._asked if kills and hits else None)

    def end(self) -> bool:
        """Kill whatever is in it, and wait until it is empty; say whether it has a folder."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self.folders and (there := _processes(self._memory)) and time.monotonic() < deadline:
            try:
                _write(self._memory / "cgroup.kill", b"1")
            except OSError:  # an old kernel, or the first version
                for pid in there:
                    with suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(_ASK_SECONDS)
        return bool(self.folders)

    def remove(self) -> None:
        """End and remove it."""
        self.end()
        for folder in self.folders:
            with suppress(OSError):
                folder.rmdir()
        self.folders = ()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @property
    def _memory(self) -> Path:
        return self.folders[0]

    def _room_for(self, memory_bytes: int) -> int:
        """Return the limit of a step; what those before left in caches is given back, and not for it to take."""
        held = self._held()
        if (excess := self._usage() - held - memory_bytes) > 0:
            with suppress(OSError):  # what cannot be given back yet is no reason to kill anybody
                _write(self._memory / self._names.reclaim, b"%d" % excess)
        return max(held + memory_bytes, self._usage())

    def _limit(self, limit_bytes: int | None) -> None:
        """Write a limit down, of memory with what of it is swapped.

        With the first version the second is a limit of both, which must not be less than the first; where they are the
        same, the kernel counts no hit of either.
        """
        names, swap = self._names, self._memory / self._names.swap
        has_swap = swap.exists()
        if has_swap:
            _write(swap, names.unlimited)
        _write(self._memory / names.limit, names.unlimited if limit_bytes is None else b"%d" % limit_bytes)
        if has_swap and limit_bytes is not None:
            _write(swap, b"%d" % (limit_bytes + _SWAP_BYTES) if names is _FIRST else b"0")

    def _held(self) -> int:
        """Return what is in use and stays so: by what starts steps, and by what steps before left in memory."""
        counts = _read(self._memory / "memory.stat")
        return max(0, self._usage() - sum(_count(counts, name) for name in self._names.caches))

    def _usage(self) -> int:
        return int(_read(self._memory / self._names.usage))

    def _counts(self) -> tuple[int, int]:
        """Return how many processes were killed for lack of memory, and how often the limit was reached."""
        name, word = self._names.hits
        return _counted(self._memory / self._names.kills, b"oom_kill"), _counted(self._memory / name, word)


def made_in(of: Path | None, processes: int) -> Group:
    """Make a group in a folder of them, and remove what dead workers left there; where it cannot be, it says why.

    Parameters
    ----------
    of
        The folder; None for no group.
    processes
        The most processes and threads of a step.
    """
    if of is None:
        return Group()
    try:
        twin = _divided(of)
        with _locked(of):
            _remove_abandoned(of, twin)
            memory = Path(mkdtemp(prefix=_PREFIX, dir=of))
            lock = _lock(memory)
    except OSError as error:
        return _none(of, error)
    try:
        counting = _counting(memory, twin)
        _write(counting / "pids.max", b"%d" % (processes + _OWN_TASKS))
    except OSError as error:
        lacking = f"processes of root are not limited: {_told(twin or of, error)}"
        return Group((memory,), ("memory cgroup",), (lacking,), lock)
    return Group(tuple(dict.fromkeys((memory, counting))), ("memory cgroup", "pids cgroup"), (), lock)


def joined(group: Group, pid: int) -> Group:
    """Put a process into a group and return that, or one that says why it cannot be."""
    try:
        group.add(pid)
    except OSError as error:
        of = group.folders[0].parent
        group.remove()
        return _none(of, error)
    return group


def _none(of: Path, error: OSError) -> Group:
    return Group(lacking=(f"memory of steps is not limited: {_told(of, error)}",))


def _told(of: Path, error: OSError) -> str:
    """Say why a group cannot be used, and what to do."""
    remedy = _REMEDIES.get(error.errno or 0)
    return f"control group {of}: {error.strerror or error}{f'; {remedy}' if remedy else ''}"


def _divided(of: Path) -> Path | None:
    """See that a folder divides memory, and return where processes can be counted: itself, its namesake, or nowhere.

    Raises
    ------
    OSError
        Where it does not.
    """
    known = of / "cgroup.controllers"
    if not known.exists():
        of.stat()  # raises where there is nothing
        if not (of / _FIRST.limit).exists():
            raise OSError(errno.ENODEV, "it is not one of memory")
        twin = Path(*["pids" if part == "memory" else part for part in of.parts])
        return None if twin == of else twin
    wanted = [each for each in ("memory", "pids") if each in _read(known).decode().split()]
    if "memory" not in wanted:
        raise OSError(errno.ENOTSUP, "it has no controller memory")
    control = of / "cgroup.subtree_control"
    given = _read(control).decode().split()
    if missing := [f"+{each}" for each in wanted if each not in given]:
        _write(control, " ".join(missing).encode())
    return of if "pids" in wanted else None


def _counting(memory: Path, twin: Path | None) -> Path:
    """Return the folder in which the processes of a group are counted, which is made where it is another.

    Raises
    ------
    OSError
        Where there is none.
    """
    if twin is None:
        raise OSError(errno.ENOTSUP, "it has no controller pids")
    if twin != memory.parent:
        (twin / memory.name).mkdir()
    return twin / memory.name


def _remove_abandoned(of: Path, twin: Path | None) -> None:
    """Remove groups whose worker has ended, and what is left in them."""
    for folder in of.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            lock = _lock(folder)
            Group(tuple(dict.fromkeys((folder, (twin or of) / folder.name))), lock=lock).remove()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Have a folder for a moment; wait for it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _lock(folder: Path) -> int:
    """Lock a folder that nobody else has.

    Raises
    ------
    BlockingIOError
        Where somebody has.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _processes(folder: Path) -> list[int]:
    """Return the processes of a group that can be seen from here."""
    with suppress(OSError):
        return [int(line) for line in _read(folder / _PROCESSES).split() if line != b"0"]
    return []


def _counted(path: Path, word: bytes) -> int:
    """Return the number behind a word of a file, or that of the whole file for an empty word; 0 for a missing file."""
    with suppress(OSError):
        text = _read(path)
        return _count(text, word) if word else int(text)
    return 0


def _count(text: bytes, name: bytes) -> int:
    _before, found, rest = (b"\n" + text).partition(b"\n" + name + b" ")
    return int(rest.partition(b"\n")[0]) if found else 0


def _read(path: Path) -> bytes:
    return read_kernel(str(path))


def _write(path: Path, value: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, value)
    finally:
        os.close(descriptor)
