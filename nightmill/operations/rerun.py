"""Running again what is not published."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from nightmill.backbone.work import campaigns, steering
from nightmill.model.conducting import CampaignRun
from nightmill.model.ports import Conductor
from nightmill.model.states import Course, JobState
from nightmill.operations import credentials, memory
from nightmill.operations.acts import Act
from nightmill.operations.drain import drain
from nightmill.operations.edited import Folder, edit_of
from nightmill.operations.site import Site


@dataclass(frozen=True)
class Rerun:
    """What a rerun comes to."""

    left: int | None
    """How many jobs of the campaign are not done; None where a stage is not planned yet, so that nobody can tell."""
    run: CampaignRun | None = None
    """The flow run that conducts it, where somebody does and something is left."""


def rerun(
    site: Site,
    name: str,
    *,
    who: str | None = None,
    why: str = "",
    folder: Folder = Folder.ASK,
    conductor: Conductor | None = None,
) -> Rerun:
    """Make ready the jobs of a campaign that failed or were cancelled, and leave a record of the act.

    Parameters
    ----------
    who
        See :meth:`~nightmill.operations.acts.Act.begin`.
    folder
        Which state of the pipeline's folder counts, where it was edited since.
    conductor
        Who is to go on with it then; by default nobody.

    Raises
    ------
    ServerAway
        Where the conductor does not answer; nothing was written where it did not from the beginning.
    RequestRefused
        Where the campaign is paused, the database was brought back from an older backup, the folder was edited and
        ``folder`` does not say which state counts, or a credential that is required is missing or has ended: nothing
        was written.
    """
    act = Act.begin(site, "rerun", who=who, why=why)
    credentials.require(site.config)
    if conductor is not None:
        conductor.require()
    drain(site)
    memory.require_current(site)

    with edit_of(site, name, folder) as edit:

        def work(session: Session) -> int | None:
            row = campaigns.own_campaign(session, name)
            before = steering.locked(session, row.id)
            steering.refuse_paused(name, before)
            if before.course is Course.CANCELLED:
                steering.set_course(session, row.id, Course.GOES_ON, who=act.who, why=act.why)
                steering.take_up_cancelled(session, row.id)
            stages = campaigns.progress(session, row.id)
            campaigns.make_ready(session, row.id)
            act.note(session, name, edit.write(session, row.id, act.who) if edit is not None else None)
            if not all(stage.revisions for stage in stages):
                return None
            return sum(stage.total - stage.counts.get(JobState.DONE, 0) for stage in stages)

        left = site.database.write(work)
    return Rerun(left, None if conductor is None or left == 0 else conductor.start(name))
