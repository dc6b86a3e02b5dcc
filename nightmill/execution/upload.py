"""Bytes on their way to the stores: uploaded, read again, and not yet visible."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from typing import Final, TypeVar

from nightmill.errors import BadFile, JobFailed, NameCollision, StoreError, StoreFull
from nightmill.execution.job import JobContext, Prepared
from nightmill.files.checksum import fingerprint
from nightmill.model.fate import Fate
from nightmill.model.journal import MadeFile

AT_A_TIME: Final = 8
"""Files that are uploaded side by side: a durable copy waits for the disk most of its time, and a disk makes several
durable at once."""

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


def upload(group: Sequence[Prepared], context: JobContext) -> None:
    """Upload what is to be published; where that fails, the attempt fails and at least its log is tried."""
    waiting = [(prepared, file) for prepared in group for file in prepared.files]
    outcomes = iter(side_by_side(lambda pair: _try_to_upload(*pair, context), waiting))
    for prepared in group:
        errors = [error for error in islice(outcomes, len(prepared.files)) if error is not None]
        if errors:
            _fail(prepared, errors[0], context)


def side_by_side(work: Callable[[Item], Outcome], items: Sequence[Item]) -> list[Outcome]:
    """Do some work that waits for the disk for several items at a time, and return what came of each."""
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(AT_A_TIME, len(items))) as pool:
        return list(pool.map(work, items))


def _try_to_upload(prepared: Prepared, file: MadeFile, context: JobContext) -> JobFailed | StoreError | None:
    try:
        _upload_one(prepared, file, context)
    except (JobFailed, StoreError) as error:
        return error
    return None


def _fail(prepared: Prepared, error: JobFailed | StoreError, context: JobContext) -> None:
    discard(prepared.files, prepared.token, context)
    prepared.failure = prepared.failure or store_failed(error)
    prepared.files = [file for file in prepared.files if not file.step]
    if any([_try_to_upload(prepared, log, context) for log in prepared.files]):
        discard(prepared.files, prepared.token, context)
        prepared.files = []


def _upload_one(prepared: Prepared, file: MadeFile, context: JobContext) -> None:
    """Upload a file, and read it again in its store: what is published is what the gate saw."""
    assert prepared.scratch is not None
    source = prepared.scratch.outputs / file.name if file.step else prepared.scratch.log
    stager = context.stager(file.store)
    try:
        stager.upload(source, file.path, attempt=prepared.token)
        seen = (file.size_bytes, file.sha256)
        if stager.uploaded(file.path, attempt=prepared.token) == seen:
            return
        changed = fingerprint(source) != seen
    except (OSError, BadFile) as error:
        raise _tampered(file, str(error)) from error
    if changed:
        raise _tampered(file, "its bytes are others now")
    raise StoreError(f"{file.name} did not arrive in store {file.store!r} as it was sent", remedy="check the store")


def _tampered(file: MadeFile, why: str) -> JobFailed:
    return JobFailed(
        f"{file.role} ({file.type}) {file.name} was changed after it passed the gate: {why}",
        fate=Fate.BAD_OUTPUT,
        step=file.step,
        remedy="no step may write to ../outputs or ../log",
    )


def discard(files: Iterable[MadeFile], attempt: str, context: JobContext) -> None:
    """Remove the uploads of an attempt that were not revealed."""
    for file in files:
        with suppress(StoreError):
            context.stager(file.store).discard(file.path, attempt=attempt)


def store_failed(error: JobFailed | StoreError) -> JobFailed:
    """Say what a store's refusal means for an attempt."""
    match error:
        case JobFailed():
            return error
        case NameCollision():
            fate = Fate.NAME_COLLISION
        case StoreFull():
            fate = Fate.NO_SPACE
        case _:
            fate = Fate.STORE_ERROR
    return JobFailed(error.message, fate=fate, remedy=error.remedy)
