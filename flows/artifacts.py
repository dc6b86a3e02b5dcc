"""What the UI shows beside the states: how far a slice is, its jobs, and a campaign's stages.

No work waits for it, and none ends for it: where the server is away, it is not shown.
"""

from __future__ import annotations

import json
import re
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Self

from sqlalchemy.orm import Session

from flows.hosting.api import PrefectApi
from nightmill.backbone.catalogue.file_warnings import warned_in
from nightmill.backbone.work.campaigns import JobLine, StageProgress, campaign_named, jobs
from nightmill.backbone.work.slices import Slice, SliceLine, slices
from nightmill.errors import ServerAway
from nightmill.model.base import grouped
from nightmill.model.report import JobReport
from nightmill.model.states import AttemptState, JobState
from nightmill.operations.site import Site
from nightmill.planning.problems import counted
from provenance.knowledge import completeness, warned

UPDATE_SECONDS = 2.0
AWAY_SECONDS = 30.0
"""How long a progress bar leaves a server in peace that did not answer."""
EVIDENCE_CHARACTERS = 500
CELL_CHARACTERS = 60
"""The UI breaks no lines inside a table: a longer text would end beyond the edge of the window."""
FAILED_JOBS = 20
"""So many are told by name in the artifact of a campaign."""
_MARKDOWN = re.compile(r"[\\`*\[\]<#~|]|(?<![^\W_])_|_(?![^\W_])")


def key(*parts: object) -> str:
    """Make a key that Prefect takes: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(map(str, parts)).lower()).strip("-")


def verbatim(text: str) -> str:
    """Write a text so that the UI, which takes it for Markdown, shows it as it is."""
    return _MARKDOWN.sub(r"\\\g<0>", text)


class SliceProgress:
    """A progress bar of a slice; use it as a context, and tell it of each report.

    Parameters
    ----------
    api
        Requests of which fail within seconds.
    """

    def __init__(self, api: PrefectApi, flow_run_id: str, done: int, total: int) -> None:
        self._api, self._flow_run_id = api, flow_run_id
        self._done, self._total = done, total
        self._failed = 0
        self._next = 0.0

    def __enter__(self) -> Self:
        self._update()
        return self

    def __exit__(self, *_: object) -> None:
        self._update()

    def ended(self, report: JobReport) -> None:
        """Count a job that ended."""
        if report.state is AttemptState.PUBLISHED:
            self._done += 1
        else:
            self._failed += 1
        if time.monotonic() >= self._next:
            self._update()

    @property
    def _percent(self) -> float:
        return 100.0 * self._done / self._total if self._total else 100.0

    @property
    def _description(self) -> str:
        failed = f", failed attempts: {self._failed}" if self._failed else ""
        return f"{self._done} of {self._total} jobs done{failed}"

    def _update(self) -> None:
        pause = AWAY_SECONDS
        with suppress(ServerAway):
            self._api.show(self._flow_run_id, "progress", self._percent, self._description)
            pause = UPDATE_SECONDS
        self._next = time.monotonic() + pause


def tell_slice(api: PrefectApi, flow_run_id: str, site: Site, which: Slice, number: int, stage: str) -> None:
    """Show the jobs of a slice as a table, those that are not done first."""

    def read() -> list[JobLine]:
        with site.database.reading() as session:
            return list(jobs(session, which.campaign_id, slice_id=which.slice_id))

    lines = sorted(site.patiently(read), key=lambda line: line.state is JobState.DONE)
    table = [
        {
            "unit": line.unit,
            "state": str(line.state),
            "attempts": line.attempts,
            "step": line.step,
            "fate": line.fate,
            "error": _cell(": ".join(filter(None, (line.called, line.explanation, line.link)))),
            "evidence": _cell(line.evidence[:EVIDENCE_CHARACTERS]),
        }
        for line in lines
    ]
    name = which.campaign.name
    description = f"Jobs of {name}, stage {stage}, slice {number}"
    with suppress(ServerAway):
        api.show(flow_run_id, "table", json.dumps(table), description, key=key("jobs", name, stage, number))


def _cell(text: str) -> str:
    broken = textwrap.TextWrapper(CELL_CHARACTERS, break_long_words=False, break_on_hyphens=False)
    return "\n".join(verbatim(part) for line in text.splitlines() for part in broken.wrap(line))


def tell_campaign(
    api: PrefectApi, flow_run_id: str, site: Site, name: str, stages: Sequence[StageProgress], problems: Sequence[str]
) -> None:
    """Show how the stages of a campaign stand, where their slices are, and which jobs failed of what."""

    def read() -> tuple[list[SliceLine], list[JobLine], list[str]]:
        with site.database.reading() as session:
            campaign_id = campaign_named(session, name).id
            failed = jobs(session, campaign_id, states=[JobState.FAILED], limit=FAILED_JOBS)
            return slices(session, campaign_id), list(failed), list(_known(session, campaign_id))

    of_campaign, failed, known = site.patiently(read)
    links = grouped(
        (each.stage, f"[#{each.number}](/runs/flow-run/{each.flow_run_id})") for each in of_campaign if each.flow_run_id
    )
    table = ["| stage | jobs | done | failed | stale | slices |", "| --- | ---: | ---: | ---: | ---: | --- |"]
    for stage in stages:
        done, lost = (stage.counts.get(state, 0) for state in (JobState.DONE, JobState.FAILED))
        runs = " ".join(links.get(stage.stage, []))
        table.append(f"| {stage.stage} | {stage.total} | {done} | {lost} | {stage.stale} | {runs} |")
    left_out = sum(stage.counts.get(JobState.FAILED, 0) for stage in stages) - len(failed)
    told = [*problems, *map(str, failed), *([f"and {left_out} more failed jobs"] if left_out > 0 else []), *known]
    markdown = "\n".join([f"## Campaign {name}", "", *table, "", *(f"- {verbatim(each)}" for each in told)])
    with suppress(ServerAway):
        api.show(flow_run_id, "markdown", markdown, f"Stages of campaign {name}", key=key("campaign", name))


def _known(session: Session, campaign_id: int) -> Iterator[str]:
    """Yield what the results of a campaign are warned of, and how much is known of them."""
    for check, count in warned_in(session, [campaign_id]).get(campaign_id, {}).items():
        yield f"warned: {counted(count, 'file')} by check {check}"
    for each in warned(session, [campaign_id]).get(campaign_id, []):
        yield f"warning: {each}"
    if (known := completeness(session, [campaign_id]).get(campaign_id)) is not None and known.runs:
        yield f"known: {known}"
