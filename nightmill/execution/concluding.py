"""What becomes of a dispatch that is over: each of its attempts gets an end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nightmill.clock import Clock, utc_now
from nightmill.errors import StoreError
from nightmill.execution.claims import release_claims
from nightmill.execution.dispatches import ORDERS, Dispatched
from nightmill.execution.journal import COMPRESSED, RECORDED, SUFFIX, Journal, JournalWriter, read_journal
from nightmill.execution.orders import read_orders
from nightmill.execution.owner import this_process
from nightmill.execution.recover import Finished, Rights, finish_dead
from nightmill.model.dispatch import Ending
from nightmill.model.fate import Fate
from nightmill.model.journal import Done, Started
from nightmill.model.order import AttemptKey, JobOrder
from nightmill.model.ports import Stager
from nightmill.model.report import JobReport, fold

_UNTOLD: Final = "its worker came to its end, and did not begin the attempt"


@dataclass(frozen=True)
class Concluded:
    """How a dispatch came out."""

    reports: Mapping[AttemptKey, JobReport]
    """Of each attempt that was begun, or could not be; those that were not begun as all was to end, or as nothing could
    begin, are left out."""
    ends: tuple[Done, ...]
    """The ends that were told here."""
    waiting: Mapping[AttemptKey, StoreError]
    """Attempts that stay open because a store could not be asked, and why."""


def journal_of(dispatched: Dispatched) -> Path | None:
    """Return the journal of the worker of a dispatch, wherever it is by now; None where there is none."""
    taken, spool = dispatched.taken, dispatched.spool
    if taken is None:
        return None
    name = f"{taken.journal}{SUFFIX}"
    places = (spool / name, spool / RECORDED / name, spool / RECORDED / f"{name}{COMPRESSED}")
    return next((path for path in places if path.exists()), None)


def conclude(
    dispatched: Dispatched,
    own: JournalWriter,
    stagers: Mapping[str, Stager],
    rights_of: Callable[[Journal], Mapping[AttemptKey, Rights]],
    *,
    scratch: Path | None = None,
    now: Clock = utc_now,
) -> Concluded:
    """End the attempts of a dispatch that is over and whose worker did not: with the fate that its engine tells.

    Nobody else drains the spool meanwhile.

    Parameters
    ----------
    own
        The journal of this process: it tells the end of attempts that no worker began.
    rights_of
        What may be done about those that a journal left open, as :func:`finish_dead` takes it.
    scratch
        Where scratches are on this host.
    """
    ending = dispatched.ending or Ending(at=now())
    taken = dispatched.take(own.name, this_process(), now())
    path = journal_of(dispatched) if taken.journal != own.name else None
    finished, reports = Finished(), {}
    if path is not None:
        journal = read_journal(path)
        if path.parent == dispatched.spool:
            finished = finish_dead(journal, stagers, rights_of(journal), scratch=scratch, now=now)
        attempts = set(dispatched.dispatch.attempts)
        told = fold([*journal.entries, *finished.ends])
        reports = {attempt: report for attempt, report in told.items() if attempt in attempts}
    if ending.fate is not Fate.CANCELLED and not ending.unfit:
        orders = [each for each in read_orders(dispatched.folder / ORDERS) if each.attempt not in reports]
        if taken.journal != own.name:
            release_claims(dispatched.spool, taken.journal, [order.attempt for order in orders])
        own.claim(order.attempt for order in orders)
        for order in orders:
            reports[order.attempt] = _not_begun(order, ending, taken.owner.host, own, now)
        own.sync()
    return Concluded(reports, tuple(finished.ends), finished.waiting)


def _not_begun(order: JobOrder, ending: Ending, host: str, own: JournalWriter, now: Clock) -> JobReport:
    """Tell that an attempt has ended that nobody began."""
    fate = ending.fate or Fate.LOST
    evidence = f"{ending.evidence or _UNTOLD}; before the attempt began"
    begun = Started(attempt=order.attempt, at=now(), order=order, host=host)
    done = Done(attempt=order.attempt, at=now(), state=fate.attempt_state, fate=fate, evidence=evidence)
    own.append(begun)
    own.append(done)
    return fold([begun, done])[order.attempt]
