"""One attempt at a job on one machine: from an empty scratch to outputs that wait to be published.

The job obeys its order and asks nobody: no database, no catalogue.
"""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import signal
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

from nightmill.clock import Clock, utc_now
from nightmill.errors import BadFile, JobFailed, RequestRefused, StoredFileMissing, StoreError
from nightmill.execution.evidence import last_lines
from nightmill.execution.faults import scratch_failed
from nightmill.execution.gate import check_outputs
from nightmill.execution.host import Host, this_host
from nightmill.execution.journal import JournalWriter
from nightmill.execution.owner import this_process
from nightmill.execution.process import Ended, run_process
from nightmill.execution.scratch import Scratch, token
from nightmill.execution.software import stack_of
from nightmill.files.checksum import fingerprint
from nightmill.model.fate import Fate
from nightmill.model.journal import (
    AttemptEntry,
    Checked,
    Entry,
    MadeFile,
    SoftwareSeen,
    Staged,
    Started,
    StepBegan,
    StepEnded,
)
from nightmill.model.order import AttemptKey, JobOrder, OrderInput, OrderStep
from nightmill.model.ports import Stager
from nightmill.model.report import JobReport, fold

_INHERITED: Final = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV")


@dataclass
class Prepared:
    """An attempt that ran and whose files wait in its scratch to be published."""

    order: JobOrder
    token: str
    failure: JobFailed | None
    files: list[MadeFile]
    """What is to be published: every kept output and the log; the log alone after a failure."""
    scratch: Scratch | None


@dataclass
class JobContext:
    """What the jobs of one process share."""

    stagers: Mapping[str, Stager]
    scratch: Path
    """Folder for the scratches, on a local disk."""
    journal: JournalWriter
    keep_scratch: bool = False
    now: Clock = utc_now
    host: Host = field(default_factory=this_host)
    stopping: str = ""
    """Set, by any thread, to why everything is to end: steps that run are ended, and none begins any more."""
    _told: dict[AttemptKey, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    _stacks: dict[object, str] = field(default_factory=dict)

    def tell(self, entry: AttemptEntry) -> None:
        """Append an entry to the journal."""
        self.journal.append(entry)
        self._told[entry.attempt].append(entry)

    def report(self, attempt: AttemptKey) -> JobReport:
        """Fold what was told of an attempt, and forget it."""
        return fold(self._told.pop(attempt))[attempt]

    def stager(self, store: str) -> Stager:
        """Return what moves bytes to and from a store, as :func:`stager_of` does."""
        return stager_of(store, self.stagers)

    def stack(self, argv: tuple[str, ...], step: OrderStep, environment: Mapping[str, str]) -> str:
        """Return the digest of the software of a step in its environment, which the journal is told once."""
        key = (argv[0], tuple(step.software.items()), tuple(environment.items()))
        if key not in self._stacks:
            packages = stack_of(argv, step.software, environment)
            digest = sha256(repr(sorted(packages.items())).encode()).hexdigest()
            self.journal.append(SoftwareSeen(sha256=digest, packages=packages))
            self._stacks[key] = digest
        return self._stacks[key]


def stager_of(store: str, stagers: Mapping[str, Stager]) -> Stager:
    """Return what moves bytes to and from a store that an order names.

    Raises
    ------
    StoreError
        Where the store is not open here.
    """
    if store not in stagers:
        raise StoreError(f"store {store!r} of the order is not open here", remedy="add it to the stores of the site")
    return stagers[store]


def prepare(order: JobOrder, context: JobContext) -> Prepared:
    """Run an attempt up to the point where nothing but its publication is missing.

    A failure is part of what is returned; only errors of nightmill itself are raised.

    Raises
    ------
    RequestRefused
        Where another process has claimed the attempt; nothing was begun.
    """
    for other in context.journal.claim([order.attempt]).values():
        raise RequestRefused(
            f"attempt {order.attempt} is carried out by {other or 'another'}",
            remedy="an attempt has one writer: wait for its end, or run the order for yourself, in a spool of your own",
        )
    # told first, so that whoever finds this process dead knows whose scratch is left
    context.tell(Started(attempt=order.attempt, at=context.now(), order=order, host=this_process().host))
    try:
        scratch = Scratch(context.scratch, order)
    except OSError as error:
        return Prepared(order, token(order.attempt, context.journal.name), scratch_failed(error), [], None)
    try:
        return _prepared(order, scratch, context)
    except BaseException:  # nobody can be told any more, and nobody else looks for it
        scratch.end(keep=context.keep_scratch)
        raise


def _prepared(order: JobOrder, scratch: Scratch, context: JobContext) -> Prepared:
    failure: JobFailed | None = None
    files: list[MadeFile] = []
    try:
        files = _run(order, scratch, context)
    except JobFailed as error:
        failure = error
    except OSError as error:
        failure = scratch_failed(error)
    try:
        files += _log_of(order, scratch)
    except BadFile as error:
        files, failure = [], failure or _log_failed(error)
    return Prepared(order, token(order.attempt, context.journal.name), failure, files, scratch)


def _run(order: JobOrder, scratch: Scratch, context: JobContext) -> list[MadeFile]:
    """Stage in and run every step; return the outputs that are to be kept."""
    _stage_in(order, scratch, context)
    made: list[MadeFile] = []
    for step in order.steps:
        made += _run_step(order, step, scratch, context, made)
    return [file for file in made if file.store]


def _stage_in(order: JobOrder, scratch: Scratch, context: JobContext) -> None:
    _must_have_room(order, scratch)
    scratch.write_order(order)
    total = 0
    for file in {file.name: file for file in order.inputs}.values():
        total += _stage_file(file, scratch, context, order.stores[file.store].verify == "checksum")
    context.tell(Staged(attempt=order.attempt, at=context.now(), files=len(order.inputs), size_bytes=total))


def _must_have_room(order: JobOrder, scratch: Scratch) -> None:
    wanted = order.resources.scratch_bytes
    if wanted is not None and (free := shutil.disk_usage(scratch.path).free) < wanted:
        raise JobFailed(
            f"the scratch {scratch.path.parent} has {free} bytes free, and the job asks for {wanted}",
            fate=Fate.NO_SPACE,
            remedy="make room, or lower scratch_bytes in the stage's resources, then rerun",
        )


def _stage_file(file: OrderInput, scratch: Scratch, context: JobContext, verify: bool) -> int:
    target = scratch.inputs / file.name
    what = f"input {file.role} ({file.type}) {file.name}"
    try:
        size = context.stager(file.store).fetch(file.path, target)
    except StoredFileMissing as error:
        raise JobFailed(f"{what} is gone: {error}", fate=Fate.INPUT_MISSING) from error
    except StoreError as error:
        raise JobFailed(f"{what} cannot be staged: {error}", fate=Fate.STORE_ERROR) from error
    if size != file.size_bytes:
        raise JobFailed(
            f"{what} has {size} bytes in store {file.store!r}, the catalogue says {file.size_bytes}",
            fate=Fate.INPUT_CORRUPT,
            remedy="bring back a good copy of the file",
        )
    if verify:
        _size, digest = fingerprint(target)
        if digest != file.sha256:
            raise JobFailed(
                f"{what} has checksum {digest} in store {file.store!r}, the catalogue says {file.sha256}",
                fate=Fate.INPUT_CORRUPT,
                remedy="bring back a good copy of the file",
            )
    scratch.seal_input(file.name, what, file.sha256)
    return size


def _run_step(
    order: JobOrder, step: OrderStep, scratch: Scratch, context: JobContext, before: Sequence[MadeFile]
) -> list[MadeFile]:
    """Run a step and check what it made; ``before`` is what the steps before it made."""
    if context.stopping:
        raise JobFailed(f"step {step.name!r} was not begun: {context.stopping}", fate=Fate.CANCELLED)
    argv = _argv(order, step, before)
    environment = _environment(step, cores=context.host.cores_for(order.resources))
    stack = context.stack(argv, step, environment)
    log = scratch.open_log()
    os.write(log, f"== {step.name}: {shlex.join(argv)}\n".encode())
    start = os.lseek(log, 0, os.SEEK_END)

    def began(pid: int) -> None:
        context.tell(
            StepBegan(attempt=order.attempt, at=context.now(), step=step.name, argv=argv, pid=pid, software=stack)
        )

    try:
        ended = run_process(
            argv,
            directory=scratch.work,
            scratch=scratch.path,
            environment={"HOME": str(scratch.tmp), "TMPDIR": str(scratch.tmp)} | environment,
            output=log,
            wall_seconds=step.wall_seconds,
            began=began,
            stopping=lambda: bool(context.stopping),
        )
    except (OSError, ValueError) as error:
        raise _not_started(step, argv[0], error) from error
    context.tell(
        StepEnded(
            attempt=order.attempt,
            at=context.now(),
            step=step.name,
            exit_code=ended.exit_code,
            signal=ended.signal,
            cost=ended.cost,
        )
    )
    _must_have_succeeded(step, ended, log, start, context.stopping)
    try:
        scratch.must_be_whole(step.name)
        made = check_outputs(order, step, scratch, log)
        context.tell(Checked(attempt=order.attempt, at=context.now(), step=step.name, files=tuple(made)))
        scratch.set_aside(step.name)
    except OSError as error:
        raise scratch_failed(error, step.name) from error
    return made


def _not_started(step: OrderStep, program: str, error: OSError | ValueError) -> JobFailed:
    remedy = "is the program installed on this host, and on its PATH?"
    if isinstance(error, OSError) and error.errno == errno.E2BIG:
        remedy = "its files are too many for one command line: let it look for them in ../inputs"
    why = error.strerror if isinstance(error, OSError) else str(error)
    return JobFailed(
        f"step {step.name!r} cannot be started: {program!r}: {why}",
        fate=Fate.STEP_NOT_STARTED,
        step=step.name,
        remedy=remedy,
    )


def _argv(order: JobOrder, step: OrderStep, before: Sequence[MadeFile]) -> tuple[str, ...]:
    """Fill in this Python, and leave out the outputs that earlier steps were free not to make."""
    planned = {name for each in order.steps for output in each.outputs for name in output.names}
    absent = {f"../outputs/{name}" for name in planned - {file.name for file in before}}
    return tuple(item.replace("{python}", sys.executable) for item in step.argv if item not in absent)


def _environment(step: OrderStep, *, cores: int) -> dict[str, str]:
    """Return a step's environment but for its places: of what this process knows, no more than a program needs."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    limits = {"NIGHTMILL_CORES": str(cores), "OMP_NUM_THREADS": str(cores)}  # or libraries take every core of the host
    return inherited | {"TZ": "UTC"} | limits | dict(step.environment)


def _must_have_succeeded(step: OrderStep, ended: Ended, log: int, start: int, stopping: str) -> None:
    if ended.exit_code == 0 and not (ended.timed_out or ended.stopped):
        return
    if ended.stopped:
        fate, what = Fate.CANCELLED, f"was ended: {stopping}"
    elif ended.timed_out:
        fate, what = Fate.WALL_LIMIT, f"ran longer than its {step.wall_seconds:g} s and was ended"
    elif ended.signal is not None:
        fate, what = Fate.STEP_KILLED, f"was ended by {_signal_name(ended.signal)}"
    else:
        fate, what = Fate.STEP_FAILED, f"exited with code {ended.exit_code}"
    tail = last_lines(log, start)
    raise JobFailed(f"step {step.name!r} {what}{': ' + tail if tail else ''}", fate=fate, step=step.name)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # one of the real-time signals, which have none
        return f"signal {number}"


def _log_of(order: JobOrder, scratch: Scratch) -> list[MadeFile]:
    if scratch.log is None:
        return []
    size_bytes, digest = fingerprint(scratch.log)
    log = MadeFile(
        name=order.log_name,
        role="log",
        type="log",
        step="",
        size_bytes=size_bytes,
        sha256=digest,
        store=order.log_store,
        path=order.log_path,
        data_id=order.data_id,
        begins_at=order.begins_at,
        ends_at=order.ends_at,
    )
    return [log]


def _log_failed(error: BadFile) -> JobFailed:
    return JobFailed(f"the log cannot be kept: {error.message}", fate=Fate.STORE_ERROR, remedy="mend the scratch disk")
