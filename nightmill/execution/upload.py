"""Bytes on their way to the stores: uploaded, read again, and not yet visible."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from nightmill.errors import BadFile, JobFailed, NameCollision, StoreError, StoreFull
from nightmill.execution.at_once import each
from nightmill.execution.context import JobContext, is_far
from nightmill.execution.faults import scratch_failed, together
from nightmill.execution.job import Prepared
from nightmill.files.checksum import fingerprint
from nightmill.model.fate import Fate
from nightmill.model.journal import MadeFile
from nightmill.model.layout import LOG, OUTPUTS, seen
from nightmill.model.ports import Stager


def put_away(prepared: Prepared, context: JobContext) -> Prepared:
    """Upload what an attempt is to publish, and remove its scratch.

    Where an upload fails, the attempt that is returned has failed, and at least its log was tried.
    """
    try:
        return _uploaded(prepared, context)
    finally:
        if prepared.scratch is not None:
            prepared.scratch.end(keep=context.keep_scratch)


def _uploaded(prepared: Prepared, context: JobContext) -> Prepared:
    came = each(
        lambda file: _upload_one(prepared, file, context),
        prepared.files,
        far=lambda file: is_far(prepared.order, file.store),
    )
    if failures := [store_failed(one.error) for one in came if one.error is not None]:
        discard(prepared.files, prepared.token, context)
        logs = tuple([file for file in prepared.files if not file.step])
        try:
            for log in logs:
                _upload_one(prepared, log, context)
        except (JobFailed, StoreError):
            discard(logs, prepared.token, context)
            logs = ()
        return replace(prepared, failure=prepared.failure or together(failures), files=logs)
    return prepared


def _upload_one(prepared: Prepared, file: MadeFile, context: JobContext) -> None:
    """Upload a file, and read it again in its store: what is published is what the gate saw."""
    assert prepared.scratch is not None
    try:
        with prepared.scratch.source(file) as source, context.moving(file.store, insist=not file.step) as stager:
            stager.upload(source, file.path, attempt=prepared.token)
            seen = (file.size_bytes, file.sha256)
            if stager.uploaded(file.path, attempt=prepared.token) == seen:
                return
            changed = fingerprint(source) != seen
    except NameCollision as error:
        raise collided(file, context.stager(file.store), error) from error
    except BadFile as error:
        raise _tampered(file, error.message) from error
    except OSError as error:
        raise scratch_failed(error, file.step) from error
    if changed:
        raise _tampered(file, "its bytes have changed")
    raise StoreError(f"{file.name} did not arrive in store {file.store!r} as it was sent", remedy="check the store")


def _tampered(file: MadeFile, why: str) -> JobFailed:
    return JobFailed(
        f"{file.role} ({file.type}) {file.name} was changed after it passed the gate: {why}",
        fate=Fate.BAD_OUTPUT,
        step=file.step,
        remedy=f"no step may write to {seen(OUTPUTS)} or {seen(LOG)}",
    )


def discard(files: Iterable[MadeFile], attempt: str, context: JobContext) -> None:
    """Remove the uploads of an attempt that were not revealed."""
    for file in files:
        with suppress(StoreError):
            context.stager(file.store).discard(file.path, attempt=attempt)


def collided(file: MadeFile, stager: Stager, error: NameCollision) -> JobFailed:
    """Say what stands under a file's name: names tell attempts apart, so the very bytes are an earlier run's."""
    if stager.size(file.path) != file.size_bytes or stager.sha256(file.path) != file.sha256:
        return JobFailed(error.message, fate=Fate.NAME_COLLISION, remedy=error.remedy)
    return JobFailed(
        f"{file.name} stands in store {file.store!r} already, with the very bytes that were made now: this order was"
        " carried out before, by hand, or before the database was brought back from a backup",
        fate=Fate.NAME_COLLISION,
        remedy="'nightmill doctor --deep' finds files without rows, and a rerun gives names of its own",
    )


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
