"""Draining the spool: what dead processes left is ended from its own evidence, and everything told is recorded.

Every submit, rerun, retry and slice begins with it, and ``nightmill record`` does nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from nightmill.backbone.work import leases
from nightmill.backbone.work.ownership import of_other_sites
from nightmill.clock import utc_now
from nightmill.errors import RequestRefused, StoreError
from nightmill.execution.claims import Claim, end_claims, is_claimed
from nightmill.execution.dispatches import DISPATCHED, Dispatched
from nightmill.execution.journal import Journal, journals, read_journal, set_aside
from nightmill.execution.live import sweep
from nightmill.execution.owner import lives
from nightmill.execution.quarantine import Quarantined, put_in, quarantined
from nightmill.execution.recover import Finished, Rights, contradicted, finish_dead, read_to_its_end
from nightmill.model.journal import Entry
from nightmill.model.order import AttemptKey
from nightmill.model.report import JobReport, fold, stacks
from nightmill.operations import memory, transfers
from nightmill.operations.alone import Say, SpoolBusy, alone, warn
from nightmill.operations.attachments import load_reported
from nightmill.operations.belonging import Judged, judge, take_back
from nightmill.operations.dispatches import clear, end_gone, under_way
from nightmill.operations.failures import verdicts
from nightmill.operations.lost_hosts import hosts_lost
from nightmill.operations.site import Site
from provenance.executions import Stacks
from provenance.known import known
from provenance.record import Recorded, record

_REFUSED: Final = (RequestRefused, SQLAlchemyError, ArithmeticError, ValueError)
"""How the database says that it cannot take what a report holds."""


@dataclass
class Drained:
    """What a drain found and did."""

    journals: int = 0
    recorded: Recorded = field(default_factory=Recorded)
    adopted: list[AttemptKey] = field(default_factory=list)
    """Attempts whose process died while publishing, and whose files were all found in place."""
    lost: int = 0
    """Attempts that ended with their process."""
    quarantined: list[Quarantined] = field(default_factory=list)
    """Journals that were set apart: what could be believed of them is recorded."""
    waiting: dict[AttemptKey, StoreError] = field(default_factory=dict)
    """Attempts that stay as they are because a store could not be asked, and why."""


def drain(site: Site, *, spool: Path | None = None, patience_seconds: float | None = None, say: Say = warn) -> Drained:
    """Record every journal of a spool, and end the attempts of dead processes.

    One bad journal, or a store that is away, holds up nothing but the attempts that it may tell of, or that need it.

    Parameters
    ----------
    site
        Whose database and stores.
    spool
        By default the site's; another one for journals that came from elsewhere.
    patience_seconds
        How long to wait while another process drains the spool; then nothing is drained. By default for ever.
    say
        Is told, after a moment, for whom this waits, and that it goes on without.

    Raises
    ------
    DatabaseAway
        Where the database cannot be used: the journals stay, and nothing is lost.
    nightmill.execution.journal.SpoolAway
        Where the spool cannot be read or written.
    RequestRefused
        Where a spool that is not the site's tells of campaigns of another site of its catalogue: nothing was touched.
    """
    folder, drained = spool or site.config.spool, Drained()
    if folder != site.config.spool:
        _require_own(site, folder)
    try:
        with alone(folder, patience_seconds=patience_seconds, say=say):
            _drain(site, folder, drained)
    except SpoolBusy as error:
        say(f"{error.message}; going on without what its journals tell")
        return drained
    transfers.tell(site)
    with site.database.reading() as session:
        reached = memory.marks_of(session)
    memory.raise_marks(site.config.spool, reached)
    return drained


def _require_own(site: Site, folder: Path) -> None:
    told = {attempt.campaign for path in journals(folder) for attempt in fold(read_journal(path).entries)}
    with site.database.reading() as session:
        for campaign, other in of_other_sites(session, told).items():
            raise RequestRefused(
                f"the spool {folder} tells of campaign {campaign!r}, which is of site {other!r}",
                remedy=f"'nightmill record' it at site {other!r}",
            )


def _drain(site: Site, folder: Path, drained: Drained) -> None:
    lost_hosts = hosts_lost(site)
    end_gone(folder, lost_hosts)
    going_on = under_way(folder)  # before their journals are read: one that ends meanwhile may tell more than was read
    for path in journals(folder):
        try:
            journal, dead = read_to_its_end(path, lost_hosts)
            _drain_journal(site, journal, dead, lost_hosts, drained)
        except FileNotFoundError:
            continue  # its writer has recorded it to its end meanwhile, and set it aside
    if folder != site.config.spool:
        return  # journals that wait in the site's own come first
    damaged = [journal for each in quarantined(folder) if (journal := read_journal(each.path)).damage]
    told = [*drained.waiting, *going_on]
    drained.lost += end_abandoned(site, lost_hosts, now=utc_now(), told=told, damaged=damaged)
    kept = {journal.path.stem for journal in damaged}

    def has_ended(claim: Claim) -> bool:
        is_over = bool(claim.dispatch) and Dispatched(folder / DISPATCHED / claim.dispatch).is_over
        if claim.journal in kept or not (is_over or lives(claim.owner, claim.begun_at, lost_hosts) is False):
            return False
        return not (folder / f"{claim.journal}.jsonl").exists()

    end_claims(folder, ended=has_ended)
    clear(folder, lost_hosts)
    sweep(folder, is_claimed=lambda name: is_claimed(folder, name))


def _drain_journal(
    site: Site, journal: Journal, dead: bool, lost_hosts: Mapping[str, datetime], drained: Drained
) -> None:
    judged = judge(site, journal, lost_hosts)
    believed = judged.believed - _withheld(journal)
    finished = Finished()
    if dead:
        finished = finish_dead(journal, site.stagers, _rights(judged, journal), scratch=site.config.scratch)
    entries: list[Entry] = [*journal.entries, *finished.ends]
    reports = [report for attempt, report in fold(entries).items() if attempt in believed]
    misfits, waiting = dict(judged.misfits), dict(finished.waiting)
    ended_here = {end.attempt for end in finished.ends}
    for report in reports:
        if report.state.ended and report.attempt not in ended_here:
            try:
                if why := contradicted(report.published, site.stagers):
                    misfits[report.attempt] = f"{report.attempt}: {why}"
            except StoreError as error:
                waiting[report.attempt] = error
    rows, lost = load_reported(site, reports, spool=journal.path.parent)
    misfits |= lost
    sound = [report for report in reports if report.attempt not in misfits | waiting]
    misfits |= _record(site, sound, stacks(entries), rows, drained)
    drained.journals += 1
    drained.adopted += [end.attempt for end in finished.ends if end.adopted]
    drained.lost += sum(not end.adopted for end in finished.ends)
    drained.recorded.unknown += [attempt for attempt in misfits if attempt not in judged.known]
    drained.waiting |= waiting
    if not dead or waiting:
        return
    if journal.damage or misfits:
        drained.quarantined.append(put_in(journal.path, [*_damages(journal), *misfits.values(), _remedy(journal)]))
    else:
        set_aside(journal.path)


def rights_over(site: Site, journal: Journal, lost_hosts: Mapping[str, datetime]) -> Mapping[AttemptKey, Rights]:
    """Return which attempts that a journal left open may be ended, with what may be done about each."""
    return _rights(judge(site, journal, lost_hosts), journal)


def _rights(judged: Judged, journal: Journal) -> Mapping[AttemptKey, Rights]:
    believed = judged.believed - _withheld(journal)
    return {attempt: rights for attempt, rights in judged.rights.items() if attempt in believed}


def _record(
    site: Site, reports: Sequence[JobReport], software: Stacks, rows: Mapping[str, int], drained: Drained
) -> dict[AttemptKey, str]:
    """Record reports, all at once or, where the database refuses that, one by one; return those that it refuses."""
    found = verdicts(site, reports)
    try:
        told = site.database.write(
            lambda session: record(session, reports, software, now=utc_now(), attachments=rows, verdicts=found)
        )
    except _REFUSED as error:
        if len(reports) == 1:
            return {reports[0].attempt: f"{reports[0].attempt}: it cannot be recorded: {error}"}
        refused: dict[AttemptKey, str] = {}
        for report in reports:
            refused |= _record(site, [report], software, rows, drained)
        return refused
    take_back(site, told.collided)
    drained.recorded.add(told)
    return {}


def _damages(journal: Journal) -> Iterator[str]:
    for damage in journal.damage:
        of = f" of {damage.attempt}" if damage.attempt else ""
        yield f"line {damage.line}{of}: {damage.what}"


def _remedy(journal: Journal) -> str:
    spool = journal.path.parent
    if journal.damage:
        return (
            f"mend the line or delete it, and move the file back into {spool}; or remove the file: attempts that it"
            " left open are lost then, and can be rerun"
        )
    return f"what else it tells is recorded; remove the file, or move it back into {spool} when this is set right"


def end_abandoned(
    site: Site,
    lost_hosts: Mapping[str, datetime],
    *,
    now: datetime,
    told: Sequence[AttemptKey] = (),
    damaged: Sequence[Journal] = (),
) -> int:
    """End the leases of dead processes, and the attempts that these issued and never began; return how many attempts.

    Call it after the journals were recorded: what they tell comes first.

    Parameters
    ----------
    told
        Attempts that stay open: their end is known, and cannot be carried out yet, or they go on elsewhere.
    damaged
        Journals in quarantine: the attempts that their damaged lines may tell of stay open.
    """
    with site.database.reading() as session:
        held = leases.unreleased(session)
        keep = [*told, *(attempt for journal in damaged for attempt in _withheld(journal))]
        kept = [each.attempt_id for each in known(session, keep).values()]
    anything = [journal for journal in damaged if any(damage.attempt is None for damage in journal.damage)]
    dead = [
        number
        for number, holder in held.items()
        if lives(holder.owner, holder.since, lost_hosts) is False
        and not any(journal.wrote(holder.owner) for journal in anything)
    ]
    if not dead:
        return 0
    return site.database.write(lambda session: leases.give_up(session, dead, now=now, keep=kept))


def _withheld(journal: Journal) -> set[AttemptKey]:
    """Return the attempts that the damaged lines of a journal may tell of, as far as it names any."""
    withheld = {damage.attempt for damage in journal.damage if damage.attempt is not None}
    if any(damage.attempt is None for damage in journal.damage):
        withheld |= {attempt for attempt, report in fold(journal.entries).items() if not report.state.ended}
    return withheld
