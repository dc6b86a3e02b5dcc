"""Staging in: the inputs of an order, copied into its scratch and checked."""

from __future__ import annotations

import shutil
from pathlib import Path

from nightmill.errors import JobFailed, StoredFileMissing, StoreError
from nightmill.execution.context import JobContext
from nightmill.execution.scratch import Scratch
from nightmill.files.checksum import fingerprint
from nightmill.model.fate import Fate
from nightmill.model.journal import NotStaged, PassedOver, Staged
from nightmill.model.order import Copy, JobOrder, OrderInput, TakenOutput


def stage_in(order: JobOrder, scratch: Scratch, context: JobContext) -> None:
    """Copy the inputs of an order into its scratch, and tell the journal.

    Raises
    ------
    JobFailed
        Where an input is not there, is not what the catalogue says, or has no room.
    OSError
        Where the scratch cannot be written.
    """
    _must_have_room(order, scratch)
    scratch.write_order(order)
    total = 0
    passed_over: list[PassedOver] = []
    try:
        for file in {file.name: file for file in order.inputs}.values():
            total += _stage_file(file, order, scratch, context, passed_over)
    except JobFailed:
        if passed_over:
            context.tell(NotStaged(attempt=order.attempt, at=context.now(), passed_over=tuple(passed_over)))
        raise
    for taken in order.taken:
        total += _take(taken, scratch, context)
    context.tell(
        Staged(
            attempt=order.attempt,
            at=context.now(),
            files=len(order.inputs) + len(order.taken),
            size_bytes=total,
            passed_over=tuple(passed_over),
        )
    )


def _must_have_room(order: JobOrder, scratch: Scratch) -> None:
    wanted = order.resources.scratch_bytes
    if wanted is not None and (free := shutil.disk_usage(scratch.path).free) < wanted:
        raise JobFailed(
            f"the scratch {scratch.path.parent} has {free} bytes free, and the job asks for {wanted}",
            fate=Fate.NO_SPACE,
            remedy="make room, or lower scratch_bytes in the stage's resources, then rerun",
        )


def _stage_file(
    file: OrderInput, order: JobOrder, scratch: Scratch, context: JobContext, passed_over: list[PassedOver]
) -> int:
    """Stage the first copy of a file that is there and good; where none is, fail as the first of them did.

    What was tried in vain is added to ``passed_over``.
    """
    what = f"input {file.role} ({file.type}) {file.name}"
    failures: list[JobFailed] = []
    target = scratch.inputs / file.staged_name
    for copy in file.copies:
        verified = copy.store in order.stores and order.stores[copy.store].verify == "checksum"
        try:
            _fetch(file, copy, what, target, context, verify=verified)
        except JobFailed as failure:
            if context.stopping:
                raise
            failures.append(failure)
            told = PassedOver(name=file.name, store=copy.store, why=failure.message, fate=Fate(failure.fate))
            passed_over.append(told)
            target.unlink(missing_ok=True)
            continue
        scratch.seal_input(file.staged_name, what, file.sha256)
        return file.size_bytes
    others = "".join(f"; and {failure.message}" for failure in failures[1:])
    first = failures[0]
    raise JobFailed(f"{first.message}{others}", fate=first.fate, remedy=first.remedy) from first


def _take(file: TakenOutput, scratch: Scratch, context: JobContext) -> int:
    """Stage what a step made in another run to where it would have come."""
    what = f"{file.role} {file.name} of another run"
    _fetch(file, file, what, scratch.outputs / file.name, context, verify=True)
    scratch.take(file.name, file.role, what, file.sha256)
    return file.size_bytes


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
