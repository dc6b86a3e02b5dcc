"""What strace writes down, line by line: which process asked the kernel for which paths, and what came of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

OPENS: Final = ("open", "openat", "openat2", "creat", "open_by_handle_at", "pidfd_getfd")
"""What gives a descriptor: where that comes, strace tells what file it is in truth."""
RUNS: Final = ("execve", "execveat")
FOLLOWED: Final = ("truncate", "chmod", "fchmodat", "chown", "utime", "utimes", "setxattr", "removexattr")
"""What changes a file, and of a link what that leads to."""
CHANGES: Final = (
    *FOLLOWED,
    *("unlink", "unlinkat", "rmdir", "mkdir", "mkdirat", "mknod", "mknodat", "rename", "renameat", "renameat2"),
    *("fchmodat2", "lchown", "fchownat", "futimesat", "utimensat", "lsetxattr", "lremovexattr"),
)
LINKS: Final = ("link", "linkat")
MOUNTS: Final = ("mount", "move_mount", "open_tree", "pivot_root", "chroot")
"""By these a path may lead elsewhere than it says."""
MOVES: Final = ("chdir", "fchdir")
TRACED: Final = (*OPENS, *RUNS, *CHANGES, *LINKS, *MOUNTS, *MOVES, "socket", "io_uring_setup", "seccomp")

_LINE: Final = re.compile(rb'(\w+)\(((?:[^"<)]++|"(?:[^"\\]|\\.)*"|<[^>]*>|\)(?! += ))*)\) += (.*)', re.DOTALL)
_ARGUMENT: Final = re.compile(rb'(?:^|, )(?:(?:AT_FDCWD|\d+)<([^>]*)>(?:\(deleted\))?|"((?:[^"\\]|\\.)*)"|([^,]*))')
_DESCRIPTOR: Final = re.compile(rb"\d+<([^>]*)>")
_ESCAPED: Final = re.compile(rb"\\([0-7]{1,3}|.)", re.DOTALL)
_TEXTS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|<[^>]*>', re.DOTALL)
"""What a step has named: no flag of a call stands in it."""
_LETTERS: Final = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"v": b"\v", b"f": b"\f"}
_WRITES: Final = re.compile(rb"\bO_(?:WRONLY|RDWR|CREAT|TRUNC)\b")
_UNFINISHED: Final = re.compile(rb" <(?:unfinished|pid changed to \d+) \.\.\.>$")
_SUPERSEDED: Final = re.compile(rb"\+\+\+ superseded by execve in pid (\d+)")
_LONGEST: Final = 1 << 16
"""Bytes of a line: two paths of the longest kind, each byte of them escaped."""


class Unreadable(ValueError):
    """A line that strace does not write."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the kernel that has ended.

    Parameters
    ----------
    pid
        Of the process, or of its thread.
    name
        Of the call.
    paths
        That it names, each from the root; of what was opened, the one that it is in truth.
    error
        As ``ENOENT``; empty where it succeeded.
    writes
        Whether something may be changed there.
    folder
        Whether it asks for a folder.
    family
        Of a socket, as ``AF_INET``.
    """

    pid: int
    name: str
    paths: tuple[str, ...]
    error: str
    writes: bool = False
    folder: bool = False
    family: str = ""


@dataclass(frozen=True, slots=True)
class End:
    """The end of a process.

    Parameters
    ----------
    pid
        Its number.
    """

    pid: int


class Calls:
    """Reads lines as they come. What it keeps does not grow with the trace, but with the processes that live.

    Parameters
    ----------
    directory
        Where the first process begins.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._directories: dict[int, str] = {}
        self._begun: dict[int, bytes] = {}
        self._rest = b""

    def read(self, block: bytes) -> Iterator[Call | End]:
        """Yield what the next bytes of the trace tell.

        Raises
        ------
        Unreadable
            Where they are not what strace writes.
        """
        *lines, self._rest = (self._rest + block).split(b"\n")
        if len(self._rest) > _LONGEST:
            raise Unreadable(f"a line of more than {_LONGEST} bytes")
        for line in lines:
            if (told := self._line(line)) is not None:
                yield told

    def _line(self, line: bytes) -> Call | End | None:
        number, _, text = line.partition(b" ")
        if not number.isdigit():
            raise Unreadable(os.fsdecode(line[:200]))
        pid, text = int(number), text.lstrip()
        if text.startswith(b"+++ "):
            self._directories.pop(pid, None)
            self._begun.pop(pid, None)
            if (other := _SUPERSEDED.match(text)) is None:
                return End(pid)
            if begun := self._begun.pop(int(other[1]), None):  # a thread that runs a program has its process's number
                self._begun[pid] = begun
            if directory := self._directories.pop(int(other[1]), None):
                self._directories[pid] = directory
            return None
        if (unfinished := _UNFINISHED.search(text)) is not None:
            self._begun[pid] = text[: unfinished.start()]
            return None
        if text.startswith(b"<... "):
            text = self._begun.pop(pid, b"") + text.partition(b" resumed>")[2]
        if (match := _LINE.match(text)) is None:
            raise Unreadable(os.fsdecode(line[:200]))
        return self._call(pid, match[1].decode(), match[2], match[3])

    def _call(self, pid: int, name: str, arguments: bytes, result: bytes) -> Call | None:
        failed = result.startswith((b"-1", b"?"))
        error = [*result.split(b" ", 2), b"?"][1].decode() if failed else ""
        if name == "socket":
            return Call(pid, name, (), error, family=arguments.partition(b",")[0].decode())
        paths = list(self._paths(pid, name, arguments))
        if name in MOVES:
            if not error and paths:
                self._directories[pid] = paths[0]
            return Call(pid, name, tuple(paths), error)
        if name in OPENS:
            flags = _TEXTS.sub(b"", arguments)
            if b"O_PATH" in flags and not error:
                return None  # nothing can be read by it; what is opened from there is told with its own path
            if (opened := _DESCRIPTOR.match(result)) is not None:
                paths = [unescaped(opened[1])]
            writes = name == "creat" or _WRITES.search(flags) is not None
            return Call(pid, name, tuple(paths[:1]), error, writes, b"O_DIRECTORY" in flags)
        return Call(pid, name, tuple(paths), error, name in CHANGES)

    def _paths(self, pid: int, name: str, arguments: bytes) -> Iterator[str]:
        """Yield the paths among the arguments; a relative one is of the descriptor before it, else of the process."""
        folder: str | None = None
        for match in _ARGUMENT.finditer(arguments):
            if match[1] is not None:
                if folder is not None:
                    yield folder
                folder = unescaped(match[1])
                if arguments.startswith(b"AT_FDCWD", match.start() + 2 * (match.start() > 0)):
                    self._directories[pid] = folder
            elif match[2] is not None:
                path = unescaped(match[2])
                around = "" if path.startswith("/") else folder or self._of(pid)
                yield os.path.normpath(f"{around}/{path}".replace("//", "/"))
                folder = None
            elif name in RUNS:
                break  # what follows are its arguments
        if folder is not None:
            yield folder

    def _of(self, pid: int) -> str:
        return self._directories.get(pid, self._directory)


def unescaped(text: bytes) -> str:
    """Return a path as it is, of how strace writes it."""
    if b"\\" in text:
        text = _ESCAPED.sub(_letter, text)
    return os.fsdecode(text)


def _letter(match: re.Match[bytes]) -> bytes:
    text = match[1]
    return bytes([int(text, 8) & 0xFF]) if text[:1].isdigit() else _LETTERS.get(text, text)


def options(denied: Iterable[str]) -> list[str]:
    """Return the options by which strace writes what is read here.

    Parameters
    ----------
    denied
        Calls that are answered with EACCES.
    """
    inject = [option for name in denied for option in ("-e", f"inject={name}:error=EACCES")]
    return [
        *("-f", "--seccomp-bpf", "-y", "-s", "0", "-e", "signal=none"),
        *("-e", f"trace={','.join(f'?{name}' for name in TRACED)}"),
        # who listens to a filter of its own lets calls go on of which a tracer then hears nothing
        *("-e", "inject=?io_uring_setup,?seccomp:error=ENOSYS", *inject),
    ]
