"""What is in the hands of processes compared with whether these live: leases, attempts, scratches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sqlalchemy import select

from nightmill.backbone.schema import AttemptRow, CampaignRow, JobRow, LeaseRow
from nightmill.backbone.work import leases
from nightmill.backbone.work.ownership import is_own
from nightmill.execution.dispatches import dispatches
from nightmill.execution.owner import lives
from nightmill.execution.proc import all_in
from nightmill.operations.audit.contradiction import FETCH, OPEN, Contradiction, Ground, Kind
from nightmill.operations.dispatches import under_way
from provenance.known import known

DRAIN: Final = "'nightmill record' ends what it left"


def find(ground: Ground) -> Iterator[Contradiction]:
    """Yield leases of dead processes, attempts that nobody carries out, scratches that nobody works in."""
    yield from _dispatches(ground)
    yield from _leases(ground)
    yield from _attempts(ground)
    yield from _scratches(ground)


def _dead(ground: Ground) -> set[int]:
    """Return the leases of dead processes, but for those of which every attempt may go on elsewhere."""
    with ground.site.database.reading() as session:
        held = leases.unreleased(session)
        sent = known(session, under_way(ground.site.config.spool)).values()
    elsewhere = [each.issuer.owner for each in sent if each.issuer is not None and not each.state.ended]
    return {
        number
        for number, each in held.items()
        if each.owner not in elsewhere and lives(each.owner, each.since, ground.lost_hosts) is False
    }


def _dispatches(ground: Ground) -> Iterator[Contradiction]:
    for dispatched in dispatches(ground.site.config.spool):
        dispatch, driver = dispatched.dispatch, dispatched.driver
        if lives(driver, dispatch.at, ground.lost_hosts) is False and not dispatched.is_over:
            yield Contradiction(
                Kind.DISPATCH_ORPHAN,
                str(dispatched.folder),
                f"{len(dispatch.attempts)} jobs go on at engine {dispatch.engine!r}, and process {driver.pid} on"
                f" {driver.host}, which sent them there, is dead",
                f"submit campaign {dispatch.attempts[0].campaign!r} again to go on with them, or 'nightmill cancel' it",
                since=dispatch.at,
            )


def _leases(ground: Ground) -> Iterator[Contradiction]:
    dead = _dead(ground)
    with ground.site.database.reading() as session:
        held = leases.unreleased(session) if dead else {}
    for number in sorted(dead & held.keys()):  # one that was given back since had an owner that lived
        owner, since = held[number].owner, held[number].since
        yield Contradiction(
            Kind.LEASE_ORPHAN,
            f"lease {number}",
            f"it is held by process {owner.pid} on {owner.host}, which is dead",
            DRAIN,
            since=since,
        )


def _attempts(ground: Ground) -> Iterator[Contradiction]:
    query = (
        select(
            CampaignRow.name, JobRow.stage, JobRow.unit, AttemptRow.number, AttemptRow.issued_at, AttemptRow.state,
            LeaseRow,
        )
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .join(CampaignRow, CampaignRow.id == JobRow.campaign_id)
        .join(LeaseRow, LeaseRow.id == AttemptRow.lease_id)
        .where(AttemptRow.state.in_(OPEN))
        .order_by(AttemptRow.id)
        .execution_options(yield_per=FETCH)
    )  # fmt: skip
    dead = _dead(ground)
    with ground.site.database.reading() as session, session.execute(query.where(is_own(session))) as attempts:
        for campaign, stage, unit, number, issued_at, state, lease in attempts:
            if lease.released_at is None and lease.id not in dead:
                continue
            process = f"process {lease.pid} on {lease.host}"
            why = f"{process} is dead" if lease.released_at is None else f"{process} gave its lease back"
            yield Contradiction(
                Kind.ATTEMPT_ORPHAN,
                f"{campaign}/{stage}/{unit}/a{number:02d}",
                f"the attempt is open ({state}), and {why}",
                DRAIN,
                since=issued_at,
            )


def _scratches(ground: Ground) -> Iterator[Contradiction]:
    root = ground.site.config.scratch
    try:
        names = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError as error:
        yield Contradiction(Kind.UNREADABLE, str(root), f"it cannot be listed: {error.strerror}", "see who may read it")
        return
    theirs = ground.open_tokens()  # after the list: whoever began since is not in it
    for name in names:
        folder = root / name
        if name in theirs or not folder.exists():
            continue
        pids = all_in(folder)
        if pids:
            yield Contradiction(
                Kind.PROCESS_ORPHAN,
                str(folder),
                f"processes {', '.join(map(str, pids))} run there, and its attempt is not open",
                "see what they are, and end them",
            )
        yield Contradiction(
            Kind.SCRATCH_ORPHAN,
            str(folder),
            "a scratch is left of an attempt that is not open (or was kept: 'nightmill run --keep')",
            "remove it once nobody wants to look into it",
        )
