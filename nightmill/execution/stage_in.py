"""Staging in: the inputs of an order, copied into its scratch and checked."""

from __future__ import annotations

from pathlib import Path

from nightmill.errors import JobFailed, StoredFileMissing, StoreError
from nightmill.execution.at_once import each
from nightmill.execution.context import JobContext, is_far
from nightmill.execution.faults import together
from nightmill.execution.pace import told_pace
from nightmill.execution.scratch import Scratch
from nightmill.files.checksum import fingerprint
from nightmill.model.fate import Fate
from nightmill.model.journal import NotStaged, PassedOver, Staged
from nightmill.model.order import Copy, JobOrder, OrderInput, TakenOutput


def stage_in(order: JobOrder, scratch: Scratch, context: JobContext) -> None:
    """Copy the inputs of an order into its scratch, those of far stores side by side, and tell the journal.

    Raises
    ------
    JobFailed
        Where an input is not there, is not what the catalogue says, or has no room: it tells of every one that was
        tried in vain, and as the first of them the job ends.
    OSError
        Where the scratch cannot be written.
    """
    scratch.write_order(order)
    files = list({file.name: file for file in order.inputs}.values())
    wanted: list[OrderInput | TakenOutput] = [*files, *order.taken]
    passed_over: dict[str, list[PassedOver]] = {file.name: [] for file in files}

    def stage(file: OrderInput | TakenOutput) -> None:
        if isinstance(file, TakenOutput):
            _fetch(file, file, _what(file), _target(file, scratch), context, verify=True)
        else:
            _stage_file(file, order, scratch, context, passed_over[file.name])

    with told_pace(scratch, [(_target(file, scratch), file.size_bytes) for file in wanted]):
        came = each(stage, wanted, far=lambda file: is_far(order, file.store))
    found = tuple([told for file in files for told in passed_over[file.name]])
    if failures := [one.error for one in came if isinstance(one.error, JobFailed)]:
        if found:
            context.tell(NotStaged(attempt=order.attempt, at=context.now(), passed_over=found))
        raise together(failures)
    for file in files:
        scratch.seal_input(file.staged_name, _what(file), file.sha256)
    for taken in order.taken:
        scratch.take(taken.name, taken.role, _what(taken), taken.sha256)
    context.tell(
        Staged(
            attempt=order.attempt,
            at=context.now(),
            files=len(order.inputs) + len(order.taken),
            size_bytes=sum(file.size_bytes for file in wanted),
            passed_over=found,
        )
    )


def _what(file: OrderInput | TakenOutput) -> str:
    if isinstance(file, TakenOutput):
        return f"{file.role} {file.name} of another run"
    return f"input {file.role} ({file.type}) {file.name}"


def _target(file: OrderInput | TakenOutput, scratch: Scratch) -> Path:
    """Return where a file comes in: what a step made in another run, to where it would have come."""
    if isinstance(file, TakenOutput):
        return scratch.outputs / file.name
    return scratch.inputs / file.staged_name


def _stage_file(
    file: OrderInput, order: JobOrder, scratch: Scratch, context: JobContext, passed_over: list[PassedOver]
) -> None:
    """Stage the first copy of a file that is there and good; where none is, fail as the first of them did.

    What was tried in vain is added to ``passed_over``.
    """
    failures: list[JobFailed] = []
    target = _target(file, scratch)
    for copy in file.copies:
        verified = copy.store in order.stores and order.stores[copy.store].verify == "checksum"
        try:
            _fetch(file, copy, _what(file), target, context, verify=verified)
        except JobFailed as failure:
            if context.stopping:
                raise
            failures.append(failure)
            told = PassedOver(name=file.name, store=copy.store, why=failure.message, fate=Fate(failure.fate))
            passed_over.append(told)
            target.unlink(missing_ok=True)
        else:
            return
    raise together(failures) from failures[0]


def _fetch(
    file: OrderInput | TakenOutput,
    copy: Copy | TakenOutput,
    what: str,
    target: Path,
    context: JobContext,
    *,
    verify: bool,
) -> None:
    try:
        size = context.fetch(copy.store, copy.path, target)
    except StoredFileMissing as error:
        raise JobFailed(f"{what} is gone: {error}", fate=Fate.INPUT_MISSING) from error
    except StoreError as error:
        raise JobFailed(f"{what} cannot be staged: {error}", fate=Fate.STORE_ERROR) from error
    if size != file.size_bytes:
        raise JobFailed(
            f"{what} has {size} bytes in store {copy.store!r}, the catalogue says {file.size_bytes}",
            fate=Fate.INPUT_CORRUPT,
            remedy="bring back a good copy of the file",
        )
    if verify:
        _size, digest = fingerprint(target)
        if digest != file.sha256:
            raise JobFailed(
                f"{what} has checksum {digest} in store {copy.store!r}, the catalogue says {file.sha256}",
                fate=Fate.INPUT_CORRUPT,
                remedy="bring back a good copy of the file",
            )
