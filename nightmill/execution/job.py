"""One attempt at a job on one machine: from an empty scratch to outputs that wait to be published.

The job obeys its order and asks nobody: no database, no catalogue.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from nightmill.errors import BadFile, JobFailed, RequestRefused
from nightmill.execution.audit.auditor import must_audit
from nightmill.execution.context import JobContext
from nightmill.execution.evidence import on_one_line
from nightmill.execution.faults import scratch_failed
from nightmill.execution.junk import bundle_junk
from nightmill.execution.network import network_paths
from nightmill.execution.own_files import own_file
from nightmill.execution.owner import this_process
from nightmill.execution.room import wait_for_room
from nightmill.execution.scratch import Scratch, token
from nightmill.execution.stage_in import stage_in
from nightmill.execution.step import run_step
from nightmill.model.fate import Fate
from nightmill.model.journal import (
    MadeFile,
    Started,
)
from nightmill.model.order import JobOrder, stored_path


@dataclass(frozen=True)
class Prepared:
    """An attempt that ran and whose files wait in its scratch to be published."""

    order: JobOrder
    token: str
    failure: JobFailed | None
    files: tuple[MadeFile, ...]
    """What is to be published: every kept output and the log; the log alone after a failure."""
    scratch: Scratch | None


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
        scratch = Scratch(context.scratch, order, spool=context.journal.path.parent, claimed=context.is_guest)
    except OSError as error:
        return Prepared(order, token(order.attempt, context.journal.name), scratch_failed(error), (), None)
    try:
        return _prepared(order, scratch, context)
    except BaseException:  # nobody can be told any more, and nobody else looks for it
        scratch.end(keep=context.keep_scratch)
        raise


def _prepared(order: JobOrder, scratch: Scratch, context: JobContext) -> Prepared:
    failure: JobFailed | None = None
    made: list[MadeFile] = []
    try:
        for of_step in _run(order, scratch, context):
            made += of_step
    except JobFailed as error:
        failure = error
    except OSError as error:
        failure = scratch_failed(error)
    if failure is not None and failure.fate != Fate.STEP_FAILED and not context.stopping and scratch.log is not None:
        with suppress(OSError):  # the journal has it in any case
            os.write(scratch.open_log(), f"== failed: {on_one_line(str(failure))}\n".encode())
    files = _kept(made) if failure is None else _held(order, made) if not context.stopping else []
    if order.junk == "tar" and not context.stopping:
        files += _junk_of(order, scratch, failure, context)
    try:
        files += _log_of(order, scratch, context)
    except BadFile as error:
        files, failure = [], failure or _log_failed(error)
    except OSError as error:
        files, failure = [], failure or scratch_failed(error)
    return Prepared(order, token(order.attempt, context.journal.name), failure, tuple(files), scratch)


def _run(order: JobOrder, scratch: Scratch, context: JobContext) -> Iterator[list[MadeFile]]:
    """Stage in and run every step; yield what each made, once it has passed the gate."""
    for step in order.wanted_steps:
        context.containers.of(step)  # or nothing need begin
        network_paths(step, context)
        must_audit(order, step)
    wait_for_room(order, scratch, context)
    stage_in(order, scratch, context)
    if scratch.promise is not None:
        scratch.promise.staged()
    context.view.lay_out(order, scratch.path)
    with _bundle_of(order, scratch, context):
        for step in order.wanted_steps:
            yield run_step(order, step, scratch, context)


def _kept(made: Iterable[MadeFile]) -> list[MadeFile]:
    """Return the outputs that are to be kept."""
    return [file for file in made if file.store]


def _held(order: JobOrder, made: Iterable[MadeFile]) -> list[MadeFile]:
    """Return what another attempt may take of one that failed: intermediate files too, nothing for working areas."""
    if not order.keep_on_failure:
        return []
    place = {"store": order.log_store}
    held = [
        file if file.store else file.model_copy(update={**place, "path": stored_path(order.log_directory, file.name)})
        for file in made
        if file.type
    ]
    return [file for file in held if order.stores[file.store].catalogued]


@contextmanager
def _bundle_of(order: JobOrder, scratch: Scratch, context: JobContext) -> Iterator[None]:
    """Let the steps see the pipeline's folder as it was at submit, where the order has it."""
    if order.bundle is None:
        yield
        return
    with (
        context.bundles.taken(order.bundle, partial(context.fetch, order.bundle.store)) as bundle,
        scratch.showing(bundle, keep=context.keep_scratch),
    ):
        yield


def _junk_of(order: JobOrder, scratch: Scratch, failure: JobFailed | None, context: JobContext) -> list[MadeFile]:
    """Return the tar of what no output declares, where there is any and it can be made; else the log says why."""
    try:
        junk = bundle_junk(order, scratch, context.journal.path.parent, failure)
    except OSError as error:
        os.write(scratch.open_log(), f"== what no output declares is not kept: {error}\n".encode())
        return []
    return [junk] if junk is not None else []


def _log_of(order: JobOrder, scratch: Scratch, context: JobContext) -> list[MadeFile]:
    if scratch.log is None:
        return []
    if (lines := context.lines_of(order.attempt)) is not None:
        lines.read(scratch.open_log(), "", last=True)
    scratch.printed.close_gaps()
    return [own_file(order, "log", order.log_name, order.log_path, scratch.log)]


def _log_failed(error: BadFile) -> JobFailed:
    return JobFailed(f"the log cannot be kept: {error.message}", fate=Fate.STORE_ERROR, remedy="mend the scratch disk")
