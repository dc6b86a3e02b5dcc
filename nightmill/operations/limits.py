"""Limiting a campaign while it runs: how many of its jobs run at a time, and on which hosts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from nightmill.backbone.work import campaigns
from nightmill.backbone.work import limits as work
from nightmill.backbone.work.limits import Limits
from nightmill.backbone.work.steering import locked
from nightmill.errors import RequestRefused
from nightmill.model.campaign import Hosts
from nightmill.operations.acts import Act
from nightmill.operations.site import Site


@dataclass(frozen=True)
class Limited:
    """What an act came to.

    Parameters
    ----------
    limits
        What the campaign may use now.
    changed
        Whether that was otherwise before.
    unknown_hosts
        Patterns that match no host that ever carried out anything.
    """

    campaign: str
    limits: Limits
    changed: bool
    unknown_hosts: tuple[str, ...] = ()


def limit(
    site: Site,
    name: str,
    *,
    why: str,
    jobs: int | None = None,
    use: Sequence[str] | None = None,
    avoid: Sequence[str] | None = None,
    who: str | None = None,
) -> Limited:
    """Say how many jobs of a campaign run at a time, and on which hosts; what runs goes on to its end.

    What is None stays as it is.

    Parameters
    ----------
    jobs
        At most so many in all its slices; 0 for no limit.
    use, avoid
        Patterns of names of hosts, in the place of those that were said before; none for no such limit.
    who
        See :meth:`~nightmill.operations.acts.Act.begin`.

    Raises
    ------
    RequestRefused
        Where nothing is said of either, or a number or a pattern makes no sense; nothing was written.
    """
    act = Act.begin(site, "limit", who=who, why=why, needs_why=True)
    if jobs is None and use is None and avoid is None:
        remedy = "give --jobs, --use-host, --avoid-host or --any-host"
        raise RequestRefused(f"nothing is said of how campaign {name!r} is to be limited", remedy=remedy)
    if jobs is not None and jobs < 0:
        raise RequestRefused(f"--jobs {jobs} is below 0", remedy="give how many run at a time, or 0 for no limit")
    if not all([*(use or ()), *(avoid or ())]):
        raise RequestRefused("a pattern of hosts is empty", remedy="give a name, or a pattern like 'node1*'")

    def write(session: Session) -> Limited:
        row = campaigns.own_campaign(session, name)
        before = locked(session, row.id).limits
        hosts = Hosts(
            use=before.hosts.use if use is None else tuple(use),
            avoid=before.hosts.avoid if avoid is None else tuple(avoid),
        )
        unknown = work.unknown_hosts(session, hosts)
        limits = Limits(before.jobs if jobs is None else jobs, hosts, act.who, act.why)
        if (limits.jobs, hosts) == (before.jobs, before.hosts):
            return Limited(name, before, False, unknown)
        work.set_limits(session, row.id, limits)
        act.note(session, name, {**_told(limits), "before": _told(before)})
        return Limited(name, limits, True, unknown)

    return site.database.write(write)


def _told(limits: Limits) -> dict[str, object]:
    return {"jobs": limits.jobs, **limits.hosts.model_dump(mode="json")}
