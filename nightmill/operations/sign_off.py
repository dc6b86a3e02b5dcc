"""Signing off what a campaign has made up to a breakpoint."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from nightmill.backbone.work import campaigns, holds, sign_offs, steering
from nightmill.clock import utc_now
from nightmill.errors import RequestRefused, UnknownName
from nightmill.model.campaign import Campaign
from nightmill.model.conducting import CampaignRun
from nightmill.model.ports import Conductor
from nightmill.model.states import Course, Hold
from nightmill.operations import memory
from nightmill.operations.acts import Act
from nightmill.operations.holding import going_on
from nightmill.operations.site import Site
from nightmill.operations.steering import cancel


@dataclass(frozen=True)
class SignedOff:
    """What a sign-off came to.

    Parameters
    ----------
    breakpoints
        The breakpoints that were signed off, or rejected.
    accepted
        Whether the campaign goes on.
    jobs
        How many jobs were released, or cancelled.
    unreached
        What could not be reached, in words.
    run
        The flow run that conducts it, where it was set going.
    """

    campaign: str
    breakpoints: tuple[str, ...]
    accepted: bool
    jobs: int
    unreached: tuple[str, ...] = ()
    run: CampaignRun | None = None


def sign_off(
    site: Site,
    name: str,
    *,
    why: str,
    breakpoint: str = "",
    reject: bool = False,
    who: str | None = None,
    conductor: Conductor | None = None,
) -> SignedOff:
    """Accept what a campaign made up to where it waits, and have it go on; or reject it, which cancels the campaign.

    Parameters
    ----------
    breakpoint
        Name of the breakpoint; empty for every one that the campaign has reached.
    who
        See :meth:`~nightmill.operations.acts.Act.begin`.
    conductor
        Who is to go on with it; by default nobody.

    Raises
    ------
    RequestRefused
        Where the campaign is cancelled, or has not reached such a breakpoint; nothing was written.
    UnknownName
        Where it has no such breakpoint.
    """
    act = Act.begin(site, "sign-off", who=who, why=why, needs_why=True)
    memory.require_current(site)

    def work(session: Session) -> tuple[SignedOff, bool]:
        row = campaigns.own_campaign(session, name)
        before = steering.locked(session, row.id)
        steering.refuse_cancelled(name, before)
        reached = reached_breakpoints(session, name, row.id, Campaign.model_validate(row.definition), breakpoint)
        jobs = 0
        for each in reached:
            sign_offs.sign(session, row.id, each, accepted=not reject, who=act.who, why=act.why, now=utc_now())
            if not reject:
                ids = sign_offs.job_ids(session, row.id, each)
                jobs += holds.release(session, row.id, [Hold.BREAKPOINT], ids)
        if reject:
            steering.set_course(session, row.id, Course.CANCELLED, who=act.who, why=act.why)
            steering.cancel_jobs(session, row.id)
        act.note(session, name, {"breakpoints": list(reached), "reject": reject})
        return SignedOff(name, reached, not reject, jobs), not before.halts

    signed, goes_on = site.database.write(work)
    if reject:
        cancelled = cancel(site, name, why=why, who=act.who, conductor=conductor)
        return replace(signed, jobs=cancelled.jobs, unreached=cancelled.unreached)
    if conductor is None or not goes_on:
        return signed
    run, unreached = going_on(name, conductor)
    return replace(signed, run=run, unreached=(unreached,) if unreached else ())


def reached_breakpoints(
    session: Session, name: str, campaign_id: int, campaign: Campaign, wanted: str
) -> tuple[str, ...]:
    """Return the names of the breakpoints that a campaign has reached: all of them, or the one that is wanted.

    Raises
    ------
    RequestRefused
        Where it has reached none.
    UnknownName
        Where it has no such breakpoint.
    """
    known = [each.name for each in campaign.breakpoints]
    if wanted and wanted not in known:
        raise UnknownName(f"breakpoint of campaign {name!r}", wanted, known)
    waiting = sign_offs.waiting(session, campaign_id, campaign.breakpoints)
    left = {
        each.name: sign_offs.unfinished_before(session, campaign_id, each)
        for each in campaign.breakpoints
        if each.name in waiting and wanted in ("", each.name)
    }
    reached = tuple([each for each, count in left.items() if not count])
    if not reached:
        told = "; ".join(f"{each!r} is reached when {count} more jobs have ended" for each, count in left.items())
        of = f"breakpoint {wanted!r}" if wanted else "a breakpoint"
        raise RequestRefused(
            f"campaign {name!r} does not wait at {of}: {told or 'no job is held there'}",
            remedy=f"see 'nightmill status {name}'",
        )
    return reached
