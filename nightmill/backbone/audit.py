"""Who did what, when, and why: a row for each act of an operator, in the transaction of the act."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, case, func, not_, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from nightmill.backbone.schema import AttemptRow, AuditRow, CampaignRow, JobRow
from nightmill.backbone.sites import this_site
from nightmill.errors import UnknownName

AT_ONCE: Final = 500
"""Rows that are read at once."""
FIRST_SUBMIT: Final = and_(
    AuditRow.verb == "submit", not_(func.coalesce(AuditRow.detail["resumed"].as_boolean(), True))
)
"""The act that put a campaign there: every later act on it is an intervention."""
_OF_SITES: Final = (
    *("init", "ingest", "retype", "withdraw", "exclude add", "exclude lift", "record --host-lost", "recover", "backup"),
    *("retain", "bring-home", "calib add", "calib certify", "calib withdraw", "calib pin", "limit --store"),
    *("doctor --engine", "regress", "software"),
)
"""Verbs whose subject is not a campaign of this site; where they concern one alone, their detail names it."""
_NAMED: Final = func.coalesce(AuditRow.detail["campaign"].as_string(), "")
_ON: Final = case((_NAMED != "", _NAMED), (AuditRow.verb.in_(_OF_SITES), ""), else_=AuditRow.subject)
"""The campaign that an act is on, or a job of it; empty where it is on none."""


@dataclass(frozen=True, slots=True)
class Interventions:
    """How often people had to touch a campaign, or all of a site.

    Parameters
    ----------
    campaign
        Empty for the sum.
    interventions
        Acts on it after its first submit.
    jobs
        Its jobs that have a result.
    """

    campaign: str
    interventions: int
    jobs: int

    @property
    def per_1000_jobs(self) -> float | None:
        """Interventions per 1,000 jobs; None where no job has a result."""
        return 1000 * self.interventions / self.jobs if self.jobs else None


def record_act(
    session: Session,
    *,
    who: str,
    verb: str,
    subject: str,
    now: datetime,
    why: str = "",
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Write an act down.

    Parameters
    ----------
    who
        The operator.
    verb
        The command, as it is typed: ``calib certify``.
    subject
        What it was done to: a campaign, a set, a file.
    now
        When, with its zone.
    why
        In the operator's words.
    detail
        Whatever more is worth keeping; JSON.
    """
    act = {"who": who, "verb": verb, "subject": subject, "why": why, "detail": dict(detail) if detail else {}}
    session.add(AuditRow(site_id=this_site(session), at=now, **act))
    session.flush()


def last_acts(session: Session, verb: str) -> dict[str, datetime]:
    """Return when an act was last done to each of its subjects, at this site."""
    query = select(AuditRow.subject, func.max(AuditRow.at)).group_by(AuditRow.subject)
    own = (AuditRow.site_id == this_site(session), AuditRow.verb == verb)
    return {subject: at for subject, at in session.execute(query.where(*own))}


def last_of_each(session: Session, verb: str) -> dict[str, AuditRow]:
    """Return the last act of a verb on each of its subjects, at this site."""
    query = select(AuditRow).where(AuditRow.site_id == this_site(session), AuditRow.verb == verb)
    return {row.subject: row for row in session.scalars(query.order_by(AuditRow.id))}


def acts(
    session: Session,
    *,
    campaign: str = "",
    verb: str = "",
    who: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
) -> Iterator[AuditRow]:
    """Return the acts at this site, the first first; they are read as they are asked for.

    Parameters
    ----------
    campaign
        Only those on this campaign, or on a job of it.
    verb
        Only of this verb, or of those that begin with this word: ``exclude`` for ``exclude add`` too.
    since, until
        Only from the one time on, and before the other.

    Raises
    ------
    UnknownName
        Where nobody of that name did anything, or nothing was done by that verb or on that campaign, as far as the site
        knows; with a guess.
    """
    own = AuditRow.site_id == this_site(session)
    wanted = [own, *_span(AuditRow.at, since, until)]
    if campaign:
        known = session.scalars(select(CampaignRow.name)).all()
        is_on = or_(_ON.in_([campaign]), _ON.startswith(f"{campaign}/", autoescape=True))
        wanted.append(_required(session, "campaign", campaign, own & is_on, known))
    if verb:
        known = session.scalars(select(AuditRow.verb).where(own).distinct()).all()
        is_it = or_(AuditRow.verb == verb, AuditRow.verb.startswith(f"{verb} ", autoescape=True))
        wanted.append(_required(session, "verb of an act", verb, own & is_it, known))
    if who:
        known = session.scalars(select(AuditRow.who).where(own).distinct()).all()
        wanted.append(_required(session, "operator with an act", who, own & (AuditRow.who == who), known))
    query = select(AuditRow).where(*wanted).order_by(AuditRow.at, AuditRow.id)
    return iter(session.scalars(query.execution_options(yield_per=AT_ONCE)))


def interventions(
    session: Session, *, campaign: str = "", since: datetime | None = None, until: datetime | None = None
) -> list[Interventions]:
    """Count interventions and jobs of each campaign of this site that has some, in the order of their names.

    Parameters
    ----------
    campaign
        Of this one alone.
    since, until
        Count acts, and results by their end, from the one time on, and before the other.

    Raises
    ------
    UnknownName
        Where there is no such campaign; with a guess.
    """
    own = CampaignRow.site_id == this_site(session)
    names = set(session.scalars(select(CampaignRow.name).where(own)))
    if campaign and campaign not in names:
        raise UnknownName("campaign", campaign, sorted(names), remedy="see 'nightmill status --all'")
    own_acts = (AuditRow.site_id == this_site(session), _ON != "", not_(FIRST_SUBMIT))
    acted = select(_ON.label("on_")).where(*own_acts, *_span(AuditRow.at, since, until)).subquery()
    counts: Counter[str] = Counter()
    for on, count in session.execute(select(acted.c.on_, func.count()).group_by(acted.c.on_)):
        counts[on.partition("/")[0]] += count
    results = (
        select(CampaignRow.name, func.count())
        .join(JobRow, JobRow.campaign_id == CampaignRow.id)
        .join(AttemptRow, AttemptRow.job_id == JobRow.id)
        .where(own, AttemptRow.result, *_span(AttemptRow.ended_at, since, until))
        .group_by(CampaignRow.name)
    )
    jobs = {name: count for name, count in session.execute(results)}
    wanted = {campaign} if campaign else names & (counts.keys() | jobs.keys())
    return [Interventions(name, counts[name], jobs.get(name, 0)) for name in sorted(wanted)]


def _required(
    session: Session, what: str, name: str, condition: ColumnElement[bool], known: Sequence[str]
) -> ColumnElement[bool]:
    if name not in known and session.scalar(select(AuditRow.id).where(condition).limit(1)) is None:
        raise UnknownName(what, name, sorted(known), remedy="see 'nightmill acts'")
    return condition


def _span(
    column: InstrumentedAttribute[Any], since: datetime | None, until: datetime | None
) -> list[ColumnElement[bool]]:
    return [*([column >= since] if since else []), *([column < until] if until else [])]
