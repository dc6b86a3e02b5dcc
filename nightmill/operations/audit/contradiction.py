"""What an audit finds, and what its parts look at together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.schema import AttemptRow, CampaignRow, JobRow
from nightmill.execution.journal import JournalBroken, journals, read_whole_journal
from nightmill.execution.owner import lives
from nightmill.execution.scratch import token
from nightmill.model.order import AttemptKey
from nightmill.model.report import JobReport, fold
from nightmill.model.states import AttemptState
from nightmill.operations.flight.note import names_noted
from nightmill.operations.lost_hosts import hosts_lost
from nightmill.operations.site import Site

OPEN: Final = [state.value for state in AttemptState if not state.ended]
ENDED: Final = [state.value for state in AttemptState if state.ended]
FETCH: Final = 1_000
"""Rows, or files, that are compared at a time."""


class Kind(StrEnum):
    """What contradicts what."""

    EXECUTION_RUNS = "execution_runs"
    """A step is on record as running, in an attempt that has ended."""
    JOB_ACTIVE = "job_active"
    """A job is on record as active, and none of its attempts is open."""
    JOB_IDLE = "job_idle"
    """An attempt is open, and its job is on record as not active."""
    JOB_RESULT = "job_result"
    """A job is done without a result, or has one and is not done."""
    JOB_NUMBER = "job_number"
    """An attempt has a higher number than its job says was issued: the number would be given again."""
    RESULT_EMPTY = "result_empty"
    """The attempt that counts published nothing that is on record."""
    ATTEMPT_ORPHAN = "attempt_orphan"
    """An attempt is open, and the process that it was issued by is dead or gave its lease back."""
    LEASE_ORPHAN = "lease_orphan"
    """A lease is held by a dead process."""
    PROCESS_ORPHAN = "process_orphan"
    """A step still runs in the scratch of an attempt that is not open."""
    SCRATCH_ORPHAN = "scratch_orphan"
    """A scratch is left of an attempt that is not open."""
    JOURNAL_WAITS = "journal_waits"
    """The writer of a journal is dead, and what it told is not recorded to its end."""
    JOURNAL_BROKEN = "journal_broken"
    """A journal cannot be read."""
    JOURNAL_QUARANTINED = "journal_quarantined"
    """A journal was set apart, because it is damaged or tells what cannot be so."""
    JOURNAL_DISAGREES = "journal_disagrees"
    """A journal and the database tell of another end of an attempt."""
    CLAIM_ORPHAN = "claim_orphan"
    """A process that is dead still claims attempts, and has no journal that is to be recorded."""
    DISPATCH_ORPHAN = "dispatch_orphan"
    """Jobs go on at an engine, and the process of their slice that sent them there is dead."""
    LIVE_ORPHAN = "live_orphan"
    """The copy of a log that somebody followed, or a request for one, is left of an attempt that nobody carries out."""
    DATABASE_OLDER = "database_older"
    """A journal that was recorded tells what the database does not know: it was restored from an older backup."""
    FILE_UNNAMED = "file_unnamed"
    """A file stands in a store, and no copy on record is there."""
    REPLICA_MISSING = "replica_missing"
    """A copy is on record as present, and its file is not there."""
    REPLICA_CHANGED = "replica_changed"
    """The file of a copy has another size or checksum than is on record."""
    UPLOAD_LEFT = "upload_left"
    """An upload that was never revealed is left of an attempt that is not open, or of an ingest that ended."""
    UNREADABLE = "unreadable"
    """A store or a folder could not be looked at."""
    FLOW_RUN = "flow_run"
    """Prefect and the backbone disagree on a flow run."""


@dataclass(frozen=True)
class Contradiction:
    """Two things that cannot both be true.

    Parameters
    ----------
    where
        Of what: an attempt, a job, a path, a place in a store.
    what
        In a sentence, without its place.
    remedy
        What to do.
    since
        Since when, where that is known.
    """

    kind: Kind
    where: str
    what: str
    remedy: str
    since: datetime | None = None

    def __str__(self) -> str:
        since = f" (since {self.since:%Y-%m-%d %H:%M:%S} UTC)" if self.since else ""
        return f"{self.where}: {self.what}{since}; {self.remedy}"


Report = Callable[[int, int], None]
"""Is told how much of a part is done, of how much."""


@dataclass(frozen=True)
class Ground:
    """What the parts of an audit look at together.

    Parameters
    ----------
    checksums
        Whether to read every copy, and to compare its SHA-256.
    report
        Is told how far a long part is.
    """

    site: Site
    checksums: bool = False
    report: Report | None = None

    @cached_property
    def lost_hosts(self) -> Mapping[str, datetime]:
        """When hosts were declared lost."""
        return hosts_lost(self.site)

    def told_by_the_living(self) -> dict[AttemptKey, JobReport]:
        """Return what processes that may live tell of their attempts, as it stands now; whatever their database."""
        reports: dict[AttemptKey, JobReport] = {}
        for path in journals(self.site.config.spool):
            try:
                journal = read_whole_journal(path)
            except (JournalBroken, FileNotFoundError):
                continue  # the part of the journals tells of it; or it was recorded and set aside meanwhile
            header = journal.header
            if header is not None and lives(header.owner, header.begun_at, self.lost_hosts) is not False:
                reports |= fold(journal.entries)
        return reports

    def open_tokens(self) -> set[str]:
        """Return the names by which open attempts, and flight checks, call what is theirs, as it stands now."""
        keys = {key for key, report in self.told_by_the_living().items() if not report.state.ended}
        with self.site.database.reading() as session:
            keys |= {key for key, _state in attempts_in(session, OPEN)}
        return {token(key) for key in keys} | names_noted(self.site.config.spool)


def attempts_in(session: Session, states: list[str]) -> Iterator[tuple[AttemptKey, str]]:
    """Yield the attempts that are in one of these states, with it, of all sites: they may share a folder; streamed."""
    query = (
        select(CampaignRow.name, JobRow.stage, JobRow.unit, AttemptRow.number, AttemptRow.state)
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .join(CampaignRow, CampaignRow.id == JobRow.campaign_id)
        .where(AttemptRow.state.in_(states))
        .execution_options(yield_per=FETCH)
    )
    with session.execute(query) as rows:
        for campaign, stage, unit, number, state in rows:
            yield AttemptKey(campaign=campaign, stage=stage, unit=unit, number=number), state
