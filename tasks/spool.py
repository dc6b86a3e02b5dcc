"""Draining the spool: what dead processes left is ended from its own evidence, and everything told is recorded.

Every submit, rerun, retry and slice begins with it, and ``nightmill record`` does nothing else.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from nightmill.backbone import leases
from nightmill.backbone.audit import last_acts, record_act
from nightmill.errors import RequestRefused, StoreError, guess
from nightmill.execution.job import utc_now
from nightmill.execution.journal import RECORDED, Journal, JournalBroken, SpoolAway, journals, read_journal
from nightmill.execution.owner import host_name, lives
from nightmill.execution.recover import finish_dead, read_to_its_end
from nightmill.model.journal import Entry, fold, stacks
from nightmill.model.order import AttemptKey
from provenance.record import Recorded, record
from tasks import memory
from tasks.site import Site, current_user

HOST_LOST: Final = "record --host-lost"
"""The act by which an operator declares a host lost."""


@dataclass
class Drained:
    """What a drain found and did."""

    journals: int = 0
    recorded: Recorded = field(default_factory=Recorded)
    adopted: list[AttemptKey] = field(default_factory=list)
    """Attempts whose process died while publishing, and whose files were all found in place."""
    lost: int = 0
    """Attempts that ended with their process."""


def drain(site: Site, *, spool: Path | None = None) -> Drained:
    """Record every journal of a spool, and end the attempts of dead processes.

    Parameters
    ----------
    site
        Whose database and stores.
    spool
        By default the site's; another one for journals that came from elsewhere.

    Raises
    ------
    DatabaseAway
        Where the database cannot be used: the journals stay, and nothing is lost.
    JournalBroken
        Where a journal is damaged before its last line. Every other journal was recorded; attempts that no journal
        tells of were not given up, because the damaged one may.
    StoreError
        Where a store cannot tell what a dead process left there: as for a journal that is damaged.
    SpoolAway
        Where the spool cannot be read or written.
    """
    folder = spool or site.config.spool
    drained = Drained()
    lost_hosts = hosts_lost(site)
    failure: JournalBroken | StoreError | None = None
    with alone(folder):
        for path in journals(folder):
            try:
                journal, dead = read_to_its_end(path, lost_hosts)
            except FileNotFoundError:
                continue  # its writer has recorded it to its end meanwhile, and set it aside
            except JournalBroken as error:
                failure = failure or error
                continue
            try:
                _drain_journal(site, journal, dead, drained)
            except StoreError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        drained.lost += end_abandoned(site, lost_hosts, now=utc_now())
    with site.database.reading() as session:
        reached = memory.marks_of(session)
    memory.raise_marks(site.config.spool, reached)
    return drained


def _drain_journal(site: Site, journal: Journal, dead: bool, drained: Drained) -> None:
    entries: list[Entry] = list(journal.entries)
    if dead:
        ends = finish_dead(journal, site.stagers, scratch=site.config.scratch)
        entries += ends
        drained.adopted += [end.attempt for end in ends if end.adopted]
        drained.lost += sum(not end.adopted for end in ends)
    drained.journals += 1
    reports = list(fold(entries).values())
    told = site.database.write(
        lambda session: record(session, reports, stacks(entries), who=current_user(), now=utc_now())
    )
    drained.recorded.add(told)
    if dead and not told.unknown:
        set_aside(journal.path)


def set_aside(path: Path) -> None:
    """Move a journal that is recorded to its end out of the way of the next drain."""
    target = path.parent / RECORDED
    target.mkdir(exist_ok=True)
    path.rename(target / path.name)


def end_abandoned(site: Site, lost_hosts: Mapping[str, datetime], *, now: datetime) -> int:
    """End the leases of dead processes, and the attempts that these issued and never began; return how many attempts.

    Call it after the journals were recorded: what they tell comes first.
    """
    with site.database.reading() as session:
        held = leases.unreleased(session)
    dead = [number for number, holder in held.items() if lives(holder.owner, holder.since, lost_hosts) is False]
    if not dead:
        return 0
    return site.database.write(lambda session: leases.give_up(session, dead, now=now))


def hosts_lost(site: Site) -> Mapping[str, datetime]:
    """Return when which hosts were declared lost."""
    with site.database.reading() as session:
        return last_acts(session, HOST_LOST)


def declare_lost(site: Site, host: str, *, who: str, why: str) -> None:
    """Put on record that a host will not come back: every drain from now on takes its processes for dead.

    Those that it starts afterwards, because it did come back, are none of them.

    Raises
    ------
    RequestRefused
        Where nothing of that host is open, or it is this host.
    """
    if host == host_name():
        raise RequestRefused(
            f"{host!r} is this very host, where dead processes are found without being told",
            remedy="leave --host-lost away",
        )
    lost_hosts = hosts_lost(site)
    with site.database.reading() as session:
        held = [(holder.owner, holder.since) for holder in leases.unreleased(session).values()]
    for path in journals(site.config.spool):
        with suppress(FileNotFoundError, JournalBroken):
            if (header := read_journal(path).header) is not None:
                held.append((header.owner, header.begun_at))
    hosts = sorted({owner.host for owner, since in held if lives(owner, since, lost_hosts) is None})
    if host not in hosts:
        raise RequestRefused(
            f"no lease and no journal of host {host!r} is open{guess(host, hosts)}",
            remedy=f"these hosts have some: {', '.join(hosts)}" if hosts else "no other host than this one has any",
        )
    site.database.write(
        lambda session: record_act(session, who=who, verb=HOST_LOST, subject=host, why=why, now=utc_now())
    )


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep every other drain of a spool waiting.

    Raises
    ------
    SpoolAway
        Where it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".drain.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SpoolAway(
            f"the spool {folder} cannot be used: {error.filename or 'write'}: {error.strerror}",
            remedy="make room in it, mend its disk, or see who may write there; nothing that it holds is lost",
        ) from error
