"""How many jobs of a campaign run at a time, over all its slices, and on which hosts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from nightmill.backbone.schema import CampaignRow, JobRow, LeaseRow
from nightmill.model.campaign import Hosts
from nightmill.model.states import JobState

_LOCK = 0x6E696768
"""Tells locks of limits from other advisory locks of a PostgreSQL database."""


@dataclass(frozen=True)
class Limits:
    """What a campaign may use.

    Parameters
    ----------
    jobs
        How many of its jobs run at a time, at most; 0 for no limit.
    hosts
        Where they run.
    who, why
        Who said so, and why; empty where it was submitted with that.
    """

    jobs: int = 0
    hosts: Hosts = field(default_factory=Hosts)
    who: str = ""
    why: str = ""

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.jobs) or self.hosts != Hosts()

    def bar(self, host: str) -> str:
        """Say why a host may not be used, and who said so; nothing where it may."""
        barred = self.hosts.bar(host)
        return f"{barred}, {self._said}" if barred else ""

    @property
    def _said(self) -> str:
        return f"by {self.who}: {self.why}" if self.who else "as it was submitted"

    def __str__(self) -> str:
        """Say what they are, and who said so: ``at most 2 jobs at a time; avoids host node3, by mara: its disk``."""
        return f"{'; '.join(self._parts()) or 'no limits'}, {self._said}"

    def _parts(self) -> Iterator[str]:
        if self.jobs:
            yield f"at most {self.jobs} {'job' if self.jobs == 1 else 'jobs'} at a time"
        for verb, patterns in (("uses only", self.hosts.use), ("avoids", self.hosts.avoid)):
            if patterns:
                yield f"{verb} {'host' if len(patterns) == 1 else 'hosts'} {', '.join(patterns)}"


def limits_of(jobs: int, hosts: object, who: str | None, why: str | None) -> Limits:
    """Return the limits that columns of a campaign tell."""
    return Limits(jobs, Hosts.model_validate(hosts or {}), who or "", why or "")


def set_limits(session: Session, campaign_id: int, limits: Limits) -> None:
    """Say what a campaign may use."""
    hosts = limits.hosts.written()
    values = {"most_jobs": limits.jobs, "hosts": hosts, "limited_by": limits.who, "limited_why": limits.why}
    session.execute(update(CampaignRow).where(CampaignRow.id == campaign_id).values(values))


def room_for(session: Session, campaign_id: int, limits: Limits, jobs: int) -> int:
    """Return how many of so many jobs a campaign may begin; no other transaction is told until this one ends.

    What was issued counts, also while it waits for a thread or a core.
    """
    if not limits.jobs:
        return jobs
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer at a time anyway
        session.execute(text("SELECT pg_advisory_xact_lock(:kind, :id)"), {"kind": _LOCK, "id": campaign_id})
    active = select(func.count()).where(JobRow.campaign_id == campaign_id, JobRow.state == JobState.ACTIVE)
    return max(0, min(jobs, limits.jobs - (session.scalar(active) or 0)))


def unknown_hosts(session: Session, hosts: Hosts) -> tuple[str, ...]:
    """Return the patterns that match no host that ever carried out anything."""
    known = list(session.scalars(select(LeaseRow.host).distinct()))
    patterns = dict.fromkeys([*hosts.use, *hosts.avoid])
    return tuple(pattern for pattern in patterns if not any(fnmatchcase(host, pattern) for host in known))
