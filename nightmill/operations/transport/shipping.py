"""Shipping: what jobs need and only partners have comes here before they begin."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.catalogue.copies_elsewhere import copies_elsewhere
from nightmill.backbone.catalogue.transfers import here, once_here
from nightmill.backbone.schema import FileRow, JobRow, ReplicaRow
from nightmill.backbone.work.holds import hold
from nightmill.clock import utc_now
from nightmill.model.states import Hold, Purpose
from nightmill.operations.site import Result, Site, read
from nightmill.operations.transport.bring import Wanted, bring
from nightmill.planning.issue import upcoming
from nightmill.planning.since import ISSUABLE


class Shipping:
    """Ships what the jobs of a slice need, each file once; a site without a rule that lets it ships nothing.

    Parameters
    ----------
    slice_id, campaign_id
        Whose jobs.
    tell
        Called with what the operator should know.
    """

    def __init__(self, site: Site, slice_id: int, campaign_id: int, tell: Callable[[str], None]) -> None:
        self.site = site
        self.slice_id = slice_id
        self.campaign_id = campaign_id
        self.tell = tell
        self._may = any(partner.ship for partner in site.config.partners.values())
        self._known: set[int] = set()
        """Files that are here, or need not be."""
        self._began = False

    def before(self, limit: int, skip: Collection[str], stopping: Callable[[], bool]) -> bool:
        """See to it that what the next jobs need is here: at first of all jobs of the slice, later of so many.

        A job that needs what cannot be had is held, and says why.

        Parameters
        ----------
        limit, skip
            As :func:`~nightmill.planning.issue.issue` takes them.
        stopping
            Asked now and then whether to give up.

        Returns
        -------
        bool
            False where it was given up: nothing is to be issued.
        """
        if not self._may:
            return True
        most = limit if self._began else None
        jobs = self._read(lambda session: upcoming(session, self.slice_id, utc_now(), skip, most))
        self._began = True
        ids = {id_ for files in jobs.values() for id_ in files} - self._known
        if not ids:
            return True
        wanted, lacking = self._read(partial(self._wanted, ids=ids))
        if wanted:
            size_bytes = sum(file.size_bytes for file in wanted)
            self.tell(f"{len(wanted)} files are fetched from other sites first, {size_bytes / 1e6:,.1f} MB")
        brought = bring(self.site, wanted, Purpose.SHIPPED, stopping=stopping)
        had = self._read(partial(once_here, ids=list(brought.failed)))
        lacking |= {id_: why for id_, why in brought.failed.items() if id_ not in had}  # of others the job finds out
        self._known |= ids - lacking.keys()
        if lacking:
            self._hold(jobs, lacking)
        return not brought.stopped

    def _wanted(self, session: Session, *, ids: Collection[int]) -> tuple[list[Wanted], dict[int, str]]:
        """Return which of some files are to be shipped, and why others are neither here nor can be."""
        away = set(ids) - set(session.scalars(here(session).where(among(ReplicaRow.file_id, ids))))
        partners = self.site.config.partners
        copies, had = copies_elsewhere(session, away, partners), once_here(session, list(away))
        wanted, lacking = [], {}
        query = select(FileRow.id, FileRow.name, FileRow.type, FileRow.size_bytes, FileRow.sha256)
        for id_, name, type_, size_bytes, sha256 in session.execute(query.where(among(FileRow.id, away))):
            sources = tuple([copy for copy in copies.get(id_, ()) if partners[copy.site].ships(type_)])
            if sources:
                into = partners[sources[0].site].into
                wanted.append(Wanted(id_, name, size_bytes, sha256, sources, into, self.campaign_id))
            elif id_ not in had:
                lacking[id_] = f"{name} is in no store of this site, and in none that {type_} is shipped from"
        return wanted, lacking

    def _hold(self, jobs: Mapping[int, Collection[int]], lacking: Mapping[int, str]) -> None:
        """Hold the jobs that need what could not be had."""
        held: dict[str, list[int]] = {}
        for job, files in jobs.items():
            first = next((lacking[id_] for id_ in files if id_ in lacking), None)
            if first is not None:
                held.setdefault(first, []).append(job)

        def write(session: Session) -> None:
            for why, ids in held.items():
                may = select(JobRow.id).where(among(JobRow.id, ids), JobRow.state.in_(ISSUABLE))
                hold(session, session.scalars(may).all(), Hold.SHIPPING, why)

        self.site.patiently(lambda: self.site.database.write(write))
        self.tell(f"{sum(map(len, held.values()))} jobs are held, as what they need could not be shipped")

    def _read(self, work: Callable[[Session], Result]) -> Result:
        return self.site.patiently(lambda: read(self.site, work))
