"""A slice whose jobs fail as tests ask for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from nightmill.backbone.schema import AttemptRow, CampaignRow, JobRow
from nightmill.model.report import JobReport
from nightmill.operations.site import Site
from nightmill.operations.slice_work import SliceWork
from tests.support.observatory import Observatory


@dataclass(frozen=True)
class Failing:
    """A campaign of one slice at a site, a job for each text that says what its step does."""

    observatory: Observatory
    campaign: str = "night1"

    @classmethod
    def build(cls, folder: Path, url: str, texts: Sequence[str], *settings: str) -> Failing:
        failing = cls(Observatory.build(folder / "site", url))
        failing.observatory.observe(1, texts)
        failing.observatory.submit(failing.campaign, 1, "execution.threads=1", *settings)
        return failing

    def work(self, site: Site) -> SliceWork:
        return SliceWork(site, self.campaign, "science", 0)

    def conduct(self) -> list[JobReport]:
        """Carry out the slice to its end, as its flow does, with one job at a time."""
        with self.observatory.open() as site, self.work(site) as work:
            return conduct(work)

    def attempts(self) -> list[AttemptRow]:
        """Return every attempt in the order of its issue."""
        with self.observatory.open() as site, site.database.reading() as session:
            query = select(AttemptRow).join(JobRow).join(CampaignRow).where(CampaignRow.name == self.campaign)
            return list(session.scalars(query.order_by(AttemptRow.id)))

    def tries(self) -> list[int]:
        """Return how many attempts each job had."""
        return [job.attempts for job in self.observatory.jobs(self.campaign).values() if job.stage == "science"]


def conduct(work: SliceWork) -> list[JobReport]:
    """Issue, carry out and record, until nothing can be issued and nothing waits."""
    reports: list[JobReport] = []
    while True:
        orders = work.issue(1)
        for report in work.worker.run(orders):
            work.heed(report)
            work.record([report])
            reports.append(report)
        if not orders:
            pause = work.seconds_to_wait()
            if pause is None:
                return reports
            time.sleep(pause + 0.01)
