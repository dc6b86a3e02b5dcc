"""Publication: the moment at which what an attempt made becomes visible, all of it or none.

The intent is durable before the first name appears. Whoever finds an intent without its end can tell from it what
belongs to the attempt, and finish or undo: bytes that match the intent are the attempt's own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from nightmill.errors import JobFailed, NameCollision, StoreError
from nightmill.execution.context import JobContext, Superseded
from nightmill.execution.evidence import readable
from nightmill.execution.job import Prepared
from nightmill.execution.upload import collided, discard, store_failed
from nightmill.model.fate import Fate
from nightmill.model.journal import Done, MadeFile, Publishing
from nightmill.model.ports import Stager


def publish(attempts: Sequence[Prepared], context: JobContext) -> None:
    """Give the files of several attempts their names, with one durable intent for all of them.

    Raises
    ------
    Superseded
        Where they were ended for their worker. It is asked when the intent is durable: whoever ends them says so
        before the journal is read, and so either finds the intent, and finishes it, or is found here.
    """
    if context.superseded():
        for prepared in attempts:
            discard(prepared.files, prepared.token, context)
        raise _superseded(attempts)
    for prepared in attempts:
        if prepared.files:
            context.tell(
                Publishing(
                    attempt=prepared.order.attempt,
                    at=context.now(),
                    files=prepared.files,
                    fate=_fate(prepared.failure),
                    step=prepared.failure.step if prepared.failure else "",
                    evidence=_evidence(prepared.failure),
                )
            )
    context.journal.sync()
    if context.superseded():
        raise _superseded(attempts)
    revealed = [_revealed(prepared, context) for prepared in attempts]
    settle([file for prepared in revealed for file in prepared.files], context.stagers)
    for prepared in revealed:
        failure = prepared.failure
        context.tell(
            Done(
                attempt=prepared.order.attempt,
                at=context.now(),
                state=_fate(failure).attempt_state,
                fate=_fate(failure),
                step=failure.step if failure else "",
                evidence=_evidence(failure),
                published=tuple(file.name for file in prepared.files),
            )
        )


def _superseded(attempts: Sequence[Prepared]) -> Superseded:
    first, *others = [str(prepared.order.attempt) for prepared in attempts]
    more = f" and {len(others)} more" if others else ""
    return Superseded(f"{first}{more}: the dispatch was ended meanwhile, and is not this worker's any more")


def settle(files: Iterable[MadeFile], stagers: Mapping[str, Stager]) -> None:
    """Make the names of published files durable."""
    paths = defaultdict(list)
    for file in files:
        paths[file.store].append(file.path)
    for store, named in paths.items():
        stagers[store].settle(named)


def _fate(failure: JobFailed | None) -> Fate:
    return Fate.PUBLISHED if failure is None else Fate(failure.fate)


def _evidence(failure: JobFailed | None) -> str:
    return "" if failure is None else readable(str(failure))


def _revealed(prepared: Prepared, context: JobContext) -> Prepared:
    """Reveal every file of an attempt; where one cannot be, take back the others and keep at most the log."""
    revealed: list[MadeFile] = []
    try:
        for file in prepared.files:
            context.stager(file.store).reveal(file.path, attempt=prepared.token)
            revealed.append(file)
    except StoreError as error:
        if context.superseded():  # whoever ended it has finished the intent, or undone it
            raise _superseded([prepared]) from error
        for file in revealed:
            context.stager(file.store).remove(file.path)
        failed = prepared.files[len(revealed)]
        taken = isinstance(error, NameCollision) and collided(failed, context.stager(failed.store), error)
        failure = prepared.failure or taken or store_failed(error)
        return replace(prepared, failure=failure, files=_kept_log(prepared, context))
    return prepared


def _kept_log(prepared: Prepared, context: JobContext) -> tuple[MadeFile, ...]:
    """Reveal the log alone, and return it where that could be done."""
    logs = tuple([file for file in prepared.files if not file.step])
    try:
        for log in logs:
            context.stager(log.store).reveal(log.path, attempt=prepared.token)
    except StoreError:
        logs = ()
    discard(prepared.files, prepared.token, context)
    return logs
