"""Dispatches of a site: handed over, recalled, and cleaned up after, by who has its database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from sqlalchemy.orm import Session

from nightmill.backbone.work import leases
from nightmill.clock import utc_now
from nightmill.config.engines import carrier_class
from nightmill.errors import EngineAway
from nightmill.execution.claims import release_claims
from nightmill.execution.concluding import journal_of
from nightmill.execution.dispatches import Dispatched, clear_halves, dispatches
from nightmill.execution.journal import RECORDED, set_aside
from nightmill.execution.owner import lives, this_process
from nightmill.model.carrier import Carrier
from nightmill.model.dispatch import Ending
from nightmill.model.engine import EngineSetting
from nightmill.model.fate import Fate
from nightmill.model.order import AttemptKey
from nightmill.operations.lost_hosts import hosts_lost
from nightmill.operations.site import Site
from provenance.known import known


def open_carrier(setting: EngineSetting) -> Carrier:
    """Open an engine that is not threads of this process."""
    return carrier_class(setting.kind)(setting.name, setting.options)


SliceName = tuple[str, str, int]
"""Campaign, stage and number of a slice."""


def hand_over(site: Site, session: Session, lease_id: int, of: SliceName) -> list[Dispatched]:
    """Give a lease the open attempts of dispatches of a slice whose drivers are dead, and return these dispatches.

    One may be over, where its journal waits in the spool: it ended after that was drained, or nobody could drain it.
    """
    found, lost_hosts = [], hosts_lost(site)
    for dispatched in dispatches(site.config.spool):
        dispatch = dispatched.dispatch
        first = dispatch.attempts[0]
        if (first.campaign, first.stage, dispatch.slice_number) != of:
            continue
        if dispatched.is_over and not _waits(dispatched):
            continue
        ids = [
            each.attempt_id
            for each in known(session, dispatch.attempts, to_change=True).values()
            if not each.state.ended
            and each.issuer is not None
            and lives(each.issuer.owner, each.issuer.since, lost_hosts) is False
        ]
        if ids:
            leases.hand_over(session, ids, lease_id)
            found.append(dispatched)
    return found


def recall(site: Site, campaign: str, why: str) -> None:
    """End the dispatches of a campaign whose drivers are dead: those that nobody has begun never begin."""
    handles: defaultdict[str, list[str]] = defaultdict(list)
    lost_hosts, own = hosts_lost(site), this_process()
    for dispatched in dispatches(site.config.spool):
        dispatch = dispatched.dispatch
        if dispatch.attempts[0].campaign != campaign or dispatched.is_over or dispatched.told_to_stop:
            continue
        if not _is_left(dispatched, lost_hosts):
            continue
        dispatched.stop(why)
        if dispatched.take("", own, utc_now()).owner == own:
            dispatched.end(Ending(at=utc_now(), fate=Fate.CANCELLED, evidence=why))
        if (handle := dispatched.handle) is not None and dispatch.engine in site.config.engines:
            handles[dispatch.engine].append(handle)
    for engine, theirs in handles.items():
        carrier = open_carrier(site.config.engines[engine])
        try:
            with suppress(EngineAway):  # workers heed the word by themselves, and what waits does not begin
                carrier.end(theirs)
        finally:
            carrier.close()


def end_gone(spool: Path, lost_hosts: Mapping[str, datetime]) -> None:
    """Say of dispatches that they are over whose worker is dead: where nobody follows them, or its host was lost."""
    for dispatched in dispatches(spool):
        taken = dispatched.taken
        if dispatched.is_over or taken is None or lives(taken.owner, taken.at, lost_hosts) is not False:
            continue
        who = f"worker process {taken.owner.pid} on {taken.owner.host}"
        if taken.at < lost_hosts.get(taken.owner.host, taken.at):
            evidence = f"{who} was lost with its host, as an operator says"
        elif _is_left(dispatched, lost_hosts):
            evidence = f"{who} died"
        else:
            continue  # its engine tells how
        dispatched.end(Ending(at=utc_now(), fate=Fate.LOST, evidence=evidence))


def under_way(spool: Path) -> list[AttemptKey]:
    """Return the attempts of dispatches that are not over: whoever follows these, they go on."""
    return [
        attempt
        for dispatched in dispatches(spool)
        if not dispatched.is_over
        for attempt in dispatched.dispatch.attempts
    ]


def clear(spool: Path, lost_hosts: Mapping[str, datetime]) -> None:
    """Remove dispatches that nobody follows, and whose journal is recorded to its end; and halves of some."""
    clear_halves(spool)
    for dispatched in dispatches(spool):
        if dispatched.is_over and _is_left(dispatched, lost_hosts):
            journal = journal_of(dispatched)
            if journal is None or journal.parent.name == RECORDED:
                dispatched.remove()


def tidy(done: Iterable[Dispatched]) -> None:
    """Set aside what is left of dispatches that are over, and whose every attempt is recorded."""
    for dispatched in done:
        taken, journal = dispatched.taken, journal_of(dispatched)
        if taken is not None and journal is not None and taken.owner != this_process():
            if journal.parent == dispatched.spool:
                set_aside(journal)
            release_claims(dispatched.spool, taken.journal, dispatched.dispatch.attempts)
        dispatched.remove()


def _waits(dispatched: Dispatched) -> bool:
    """Whether the journal of a dispatch waits in the spool: neither recorded to its end nor in quarantine."""
    journal = journal_of(dispatched)
    return journal is not None and journal.parent == dispatched.spool


def _is_left(dispatched: Dispatched, lost_hosts: Mapping[str, datetime]) -> bool:
    """Whether nobody follows a dispatch any more, as far as can be told from this host."""
    return lives(dispatched.driver, dispatched.dispatch.at, lost_hosts) is False
