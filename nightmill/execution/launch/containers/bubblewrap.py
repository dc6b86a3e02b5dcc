"""Bubblewrap: images that are unpacked folders, mounted without a daemon and without privileges."""

from __future__ import annotations

import errno
import json
import os
import resource
import select
import signal
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from nightmill.errors import RequestRefused
from nightmill.execution.confine.shim import Shim
from nightmill.execution.launch.containers.port import SHIM, NotContained, Shown, answer_of, behind_shim
from nightmill.execution.launch.containers.rootfs import must_be
from nightmill.execution.launch.containers.told import ToldByCode
from nightmill.execution.launch.plain import Launch, Outcome
from nightmill.execution.proc import children, kill, spent_seconds, started_at, state_of, wait_status
from nightmill.model.container import ImageCopy

_OWN: Final = (Path("/proc"), Path("/dev"), Path("/tmp"))  # noqa: S108 - of the container
"""What every container has of its own, whatever its image has there."""
_MOST_ARGUMENTS: Final = 9000
"""bwrap takes no more, those of the program and its own together."""
_PATIENCE_SECONDS: Final = 10.0
_ASK_SECONDS: Final = 0.0003


class Bubblewrap:
    """Runs programs in folders; see :class:`~nightmill.execution.launch.containers.port.Runtime`."""

    called = "bubblewrap"
    program = "bwrap"
    is_parent = True
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    def version(self) -> str:
        """Return the version, where this host lets its user make containers."""
        version = answer_of([self.program, "--version"])
        try:
            answer_of([self.program, "--unshare-all", "--ro-bind", "/", "/", "--", "true"])
        except RequestRefused as error:
            raise RequestRefused(
                f"this host does not let its user make containers: {error.message}",
                remedy="ask for user namespaces, or name another runtime under containers.runtime of nightmill.yaml",
            ) from error
        return version

    def find(self, image: str, copy: ImageCopy | None, cache: Path) -> str:
        """Return the folder of an image, which is what its digest says."""
        if copy is None:
            raise RequestRefused(
                f"image {image} is not on this host: no folder is named for it",
                remedy="unpack it, and name the folder under containers.images of nightmill.yaml",
            )
        if not copy.path.is_dir():
            raise RequestRefused(
                f"image {image} is not on this host: {copy.path} is not a folder",
                remedy="unpack it there, or name another folder under containers.images of nightmill.yaml",
            )
        must_be(image, copy, cache)
        return str(copy.path)

    def argv(
        self, launch: Launch, called: str, room: Sequence[Shown], *, network: bool = False, terminal: bool = False
    ) -> list[str]:
        """Return the command line around that of a step."""
        return [self.program, *self._options(launch, Path(called), room, network), "--", *launch.argv]

    def start(
        self, launch: Launch, called: str, room: Sequence[Shown], *, network: bool = False, shim: Shim | None = None
    ) -> ToldByCode:
        """Start a step, and wait until its program runs."""
        with ExitStack() as files:
            status, rules, written = _memory(files, "status"), _memory(files, "rules"), b""
            if shim is not None:
                written = shim.rules.written()
                os.write(rules, written)
                launch, room = behind_shim(launch, str(rules)), [*room, Shown(shim.path, SHIM)]
            options = ["--json-status-fd", str(status), *self._options(launch, Path(called), room, network)]
            argv = [self.program, *options, "--", *launch.argv]
            if len(argv) > _MOST_ARGUMENTS:
                raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
            process = Contained(
                launch.group.entering(argv),
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath)},
                stdin=subprocess.DEVNULL,
                stdout=launch.output,
                stderr=launch.output,
                pass_fds=(status, rules),
                start_new_session=True,
            )
            process.shim = None if shim is None else _program_at(shim.path)
            if not process.hold() and (os.fstat(rules).st_size > len(written) or not _began(status)):
                process.wait()
                raise NotContained(f"{self.program} ended with code {process.returncode}")
        return process

    def _options(self, launch: Launch, image: Path, room: Sequence[Shown], network: bool) -> Iterator[str]:
        yield from ("--unshare-all", *(("--share-net",) if network else ()))
        yield from ("--die-with-parent", "--cap-drop", "ALL", "--clearenv")
        yield from _shows(image, Path("/"), [*_OWN, *(shown.target for shown in room)])
        yield from ("--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/tmp")  # noqa: S108
        for shown in room:
            yield from ("--bind" if shown.writable else "--ro-bind", str(shown.source), str(shown.target))
        yield from ("--remount-ro", "/", "--chdir", str(launch.directory))
        for name, value in launch.environment.items():
            yield from ("--setenv", name, value)


def _shows(image: Path, inside: Path, targets: Collection[Path]) -> Iterator[str]:
    """Yield the options that mount an image, read-only, and leave places for what is mounted in it.

    A folder of it in which a target lies is made anew, with what it has beside the target. Links stay links: what they
    lead to is looked for in the container.
    """
    for entry in sorted(os.scandir(image / inside.relative_to("/")), key=lambda each: each.name):
        path = inside / entry.name
        if path in targets:
            continue
        is_folder = entry.is_dir(follow_symlinks=False)
        if any(path in target.parents for target in targets):
            if is_folder:
                yield from ("--dir", str(path))
                yield from _shows(image, path, targets)
        elif entry.is_symlink():
            yield from ("--symlink", str(Path(entry.path).readlink()), str(path))
        elif is_folder or entry.is_file(follow_symlinks=False):
            yield from ("--ro-bind", entry.path, str(path))


def _memory(files: ExitStack, name: str) -> int:
    descriptor = os.memfd_create(name)
    files.callback(os.close, descriptor)
    return descriptor


def _began(status: int) -> bool:
    """Say whether the program of a container was executed: its end is told only then."""
    text = os.pread(status, 1 << 16, 0).decode()
    return any("exit-code" in json.loads(line) for line in text.splitlines())


class Contained(ToldByCode):
    """A step in a container of its own: bwrap, in it the first process of the container, in it the step.

    The first process would reap the step and tell no more than an exit code. So it is stopped as soon as the step runs:
    the end of the step, and what it took, can then be read as those of any process. A stopped one can be killed.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.shim: tuple[int, int] | None = None
        """Which file is that of the program that is to become the step."""
        self._first: tuple[int, float] | None = None
        """The first process of the container, and when it started."""
        self._step: int | None = None
        self._outcome: Outcome | None = None

    @property
    def step(self) -> int:
        """The number of the process whose end is that of the step; bwrap's own where it ended too soon to be found."""
        return self.pid if self._step is None else self._step

    def hold(self) -> bool:
        """Wait until the program of the step runs, and see that its end will be known; False where bwrap has ended."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            for first in children(self.pid):
                for step in children(first):
                    if _program(step) not in (None, _program(self.pid), self.shim) and self._hold(first, step):
                        return True
            if time.monotonic() > deadline:
                return True
            time.sleep(_ASK_SECONDS)
        return False

    def _hold(self, first: int, step: int) -> bool:
        """Stop the first process, and say whether it has not reaped the step before.

        It has to wait by then: only after it has started the step it sees to it that it ends with what is around it.
        """
        if state_of(first) != "S":
            return False
        self._first = first, started_at(first) or 0.0
        self._stop()
        if step in children(first):
            self._step = step
            return True
        kill(*self._first, signal.SIGCONT)
        return False

    def _stop(self) -> None:
        """Stop the first process, if it is there, and wait until it stands still."""
        assert self._first is not None
        kill(*self._first, signal.SIGSTOP)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while state_of(self._first[0]) not in ("", "T", "t", "Z", "X") and time.monotonic() < deadline:
            time.sleep(_ASK_SECONDS)

    def looked_at(self) -> None:
        """Let the first process reap what has ended and belongs to nobody: somebody may wait until it is gone."""
        if self._first is None or wait_status(self.step) is not None:
            return
        if any(wait_status(each) is not None for each in children(self._first[0])):
            kill(*self._first, signal.SIGCONT)
            time.sleep(_ASK_SECONDS)
            self._stop()

    def ask_to_end(self, seen: Mapping[int, float]) -> None:
        """Send SIGTERM to the processes of the group, but to neither of those around them: all would end at once."""
        around = (self.pid, *(self._first or ())[:1])
        for pid, started in seen.items():
            with suppress(ProcessLookupError, PermissionError):
                if pid not in around and os.getpgid(pid) == self.pid:
                    kill(pid, started, signal.SIGTERM)

    def note_end(self) -> None:
        """Note how the step ended; where it cannot be seen any more, wait for what bwrap says of it."""
        status = None if self._step is None else wait_status(self._step)
        if status is not None:
            self._outcome = Outcome(os.waitstatus_to_exitcode(status), *spent_seconds(self.step))
            return
        if self._first is not None:
            kill(*self._first, signal.SIGCONT)
        descriptor = os.pidfd_open(self.pid)
        try:
            ended = select.poll()
            ended.register(descriptor, select.POLLIN)
            ended.poll(_PATIENCE_SECONDS * 1000)
        finally:
            os.close(descriptor)

    def outcome(self, code: int, usage: resource.struct_rusage) -> Outcome:
        """Return how the step ended: as it was seen, else as bwrap tells it."""
        told = super().outcome(code, usage)
        return told if self._outcome is None else replace(self._outcome, max_rss_bytes=told.max_rss_bytes)


def _program(pid: int) -> tuple[int, int] | None:
    """Return which file a process runs; None where there is none, or it cannot be seen."""
    return _program_at(f"/proc/{pid}/exe")


def _program_at(path: str | Path) -> tuple[int, int] | None:
    with suppress(OSError):
        facts = os.stat(path)  # noqa: PTH116 - asked often
        return facts.st_dev, facts.st_ino
    return None
