"""Publication: the moment at which what an attempt made becomes visible, all of it or none.

The intent is durable before the first name appears. Whoever finds an intent without its end can tell from it what
belongs to the attempt, and finish or undo: bytes that match the intent are the attempt's own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from nightmill.errors import JobFailed, NameCollision, StoreError
from nightmill.execution.at_once import each, results
from nightmill.execution.context import JobContext, Superseded, is_far
from nightmill.execution.evidence import readable
from nightmill.execution.faults import together
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
        _intend(prepared, context)
    context.journal.sync()
    if context.superseded():
        raise _superseded(attempts)
    revealed = results(
        each(
            lambda prepared: _revealed(prepared, context),
            attempts,
            far=lambda prepared: any(is_far(prepared.order, file.store) for file in prepared.files),
        )
    )
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


def _intend(prepared: Prepared, context: JobContext) -> None:
    """Seal what an attempt is about to publish, and tell the intent."""
    fate, evidence = _fate(prepared.failure), _evidence(prepared.failure)
    attempt, step = prepared.order.attempt, prepared.failure.step if prepared.failure else ""
    context.seal(attempt, prepared.files, fate, step, evidence)
    if prepared.files:
        at = context.now()
        context.tell(Publishing(attempt=attempt, at=at, files=prepared.files, fate=fate, step=step, evidence=evidence))


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
    came = each(
        lambda file: context.stager(file.store).reveal(file.path, attempt=prepared.token),
        prepared.files,
        far=lambda file: is_far(prepared.order, file.store),
    )
    failed = [(file, one.error) for file, one in zip(prepared.files, came, strict=True) if one.error is not None]
    if failed:
        if context.superseded():  # whoever ended it has finished the intent, or undone it
            raise _superseded([prepared]) from failed[0][1]
        there = [file for file, one in zip(prepared.files, came, strict=True) if one.well]
        for file in there:
            if file.step:
                context.stager(file.store).remove(file.path)
        failure = prepared.failure or together([_refused(file, error, context) for file, error in failed])
        return replace(prepared, failure=failure, files=_kept_log(prepared, there, context))
    return prepared


def _refused(file: MadeFile, error: JobFailed | StoreError, context: JobContext) -> JobFailed:
    """Say why a file could not be revealed."""
    if isinstance(error, NameCollision):
        return collided(file, context.stager(file.store), error)
    return store_failed(error)


def _kept_log(prepared: Prepared, there: Collection[MadeFile], context: JobContext) -> tuple[MadeFile, ...]:
    """Reveal the log alone, unless it is there, and return it where that could be done."""
    logs = tuple([file for file in prepared.files if not file.step])
    try:
        for log in [log for log in logs if log not in there]:
            context.stager(log.store).reveal(log.path, attempt=prepared.token)
    except StoreError:
        logs = ()
    discard(prepared.files, prepared.token, context)
    return logs
