"""Software stacks on record: which there are, who uses them, and which are known to a site."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from nightmill.backbone.schema import AttemptRow, CampaignRow, ExecutionRow, JobRow, RegressionRow, SoftwareRow
from nightmill.backbone.sites import this_site
from nightmill.backbone.work.ownership import is_own
from nightmill.model.software import Acceptance, Stack


@dataclass(frozen=True)
class KnownStack:
    """A stack on record.

    Parameters
    ----------
    bare_sha256
        Its digest without the bundle; that of the whole for stacks of before.
    """

    id: int
    sha256: str
    bare_sha256: str
    stack: Stack


@dataclass(frozen=True)
class Use:
    """How often a host ran a step of a campaign with a stack."""

    software_id: int
    campaign: str
    step: str
    host: str
    executions: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True)
class Verdict:
    """How a stack became known to a site, or why it did not.

    Parameters
    ----------
    attempt_id
        The reference; None where none was carried out again.
    differences
        A sentence each; none where it passed.
    """

    software_id: int
    attempt_id: int | None
    how: Acceptance
    passed: bool
    differences: Sequence[str]
    host: str
    who: str
    why: str
    at: datetime


def stacks_like(session: Session, begin: str) -> list[KnownStack]:
    """Return the stacks whose digest begins so, with the bundle or without."""
    digest = func.coalesce(SoftwareRow.bare_sha256, SoftwareRow.sha256)
    like = SoftwareRow.sha256.startswith(begin, autoescape=True) | digest.startswith(begin, autoescape=True)
    return [_known(row) for row in session.scalars(select(SoftwareRow).where(like).order_by(SoftwareRow.id))]


def stacks_by_id(session: Session, ids: Iterable[int]) -> dict[int, KnownStack]:
    """Return stacks by their numbers."""
    rows = session.scalars(select(SoftwareRow).where(SoftwareRow.id.in_(set(ids))))
    return {row.id: _known(row) for row in rows}


def _known(row: SoftwareRow) -> KnownStack:
    return KnownStack(row.id, row.sha256, row.bare_sha256 or row.sha256, Stack.read(row.packages))


def uses(session: Session, campaign: str = "") -> Iterator[Use]:
    """Yield what steps of this site ran with, the first used first.

    Parameters
    ----------
    campaign
        Of this one alone.
    """
    columns = (ExecutionRow.software_id, CampaignRow.name, ExecutionRow.step, ExecutionRow.host)
    first = func.min(ExecutionRow.began_at)
    query = (
        select(*columns, func.count(), first, func.max(ExecutionRow.began_at))
        .join(AttemptRow, AttemptRow.id == ExecutionRow.attempt_id)
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .join(CampaignRow, CampaignRow.id == JobRow.campaign_id)
        .where(is_own(session), ExecutionRow.software_id.is_not(None))
        .group_by(*columns)
        .order_by(first)
    )
    if campaign:
        query = query.where(CampaignRow.name == campaign)
    for software_id, *found in session.execute(query):
        yield Use(software_id or 0, *found)


def add_verdicts(session: Session, verdicts: Sequence[Verdict]) -> None:
    """Put verdicts on record."""
    site_id = this_site(session)
    rows = [
        {**vars(each), "site_id": site_id, "how": each.how.value, "differences": list(each.differences)}
        for each in verdicts
    ]
    if rows:
        session.execute(insert(RegressionRow), rows)


def accept_used(session: Session, *, who: str, why: str, host: str, now: datetime) -> int:
    """Put on record that whatever steps of the site ran with so far is known; return how many stacks that are."""
    site_id = this_site(session)
    used = select(SoftwareRow.id).where(
        select(ExecutionRow.id)
        .join(AttemptRow, AttemptRow.id == ExecutionRow.attempt_id)
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .join(CampaignRow, CampaignRow.id == JobRow.campaign_id)
        .where(ExecutionRow.software_id == SoftwareRow.id, CampaignRow.site_id == site_id)
        .exists()
    )
    ids = session.scalars(used).all()
    verdicts = [Verdict(id_, None, Acceptance.USED, True, (), host, who, why, now) for id_ in ids]
    add_verdicts(session, verdicts)
    return len(ids)


def standing(session: Session) -> Mapping[str, bool]:
    """Return the digests, without bundles, of the stacks that a site has judged, and whether it knows them.

    One is known that steps had run with before, or that somebody accepted; or where the last regression on each
    reference passed with it.
    """
    query = (
        select(func.coalesce(SoftwareRow.bare_sha256, SoftwareRow.sha256), RegressionRow)
        .join(SoftwareRow, SoftwareRow.id == RegressionRow.software_id)
        .where(RegressionRow.site_id == this_site(session))
        .order_by(RegressionRow.id)
    )
    settled: set[str] = set()
    last: dict[str, dict[int | None, bool]] = {}
    for digest, row in session.execute(query):
        if row.how != Acceptance.REGRESSION and row.passed:
            settled.add(digest)
        last.setdefault(digest, {})[row.attempt_id] = row.passed
    return {digest: digest in settled or all(found.values()) for digest, found in last.items()}
