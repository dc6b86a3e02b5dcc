"""Watching a campaign until its flow run has ended."""

from __future__ import annotations

import time
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from nightmill.backbone.work.campaigns import StageProgress, campaign_named, progress
from nightmill.errors import ServerAway
from nightmill.model.conducting import CampaignRun, RunState
from nightmill.model.ports import Conductor
from nightmill.model.states import JobState
from nightmill.operations.site import Site

POLL_SECONDS: Final = 0.5
COST: Final = 10.0
"""Counting the jobs of a large campaign takes a while: it pauses for so many times as long before it counts again."""
LINE_SECONDS: Final = 5.0
"""How often a line is printed where no terminal watches."""
AWAY_SECONDS: Final = 120.0
"""How long the server may be away before watching ends; the campaign itself goes on."""


def watch(site: Site, conductor: Conductor, name: str, run: CampaignRun, console: Console) -> RunState:
    """Show how far each stage is until the campaign's flow run has ended, and return its last state.

    On a terminal as bars; elsewhere as a line a stage every few seconds, where something changed.

    Raises
    ------
    ServerAway
        Where the Prefect server did not answer for two minutes.
    """
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with bars:
        lines: dict[str, str] = {}
        said = time.monotonic()
        tasks: dict[str, TaskID] = {}
        last_answer = time.monotonic()
        while True:
            try:
                state = conductor.state(run.flow_run_id)
                last_answer = time.monotonic()
            except ServerAway:
                if time.monotonic() - last_answer > AWAY_SECONDS:
                    raise
                state = None
            began = time.perf_counter()
            stages = _stages(site, name)
            took = time.perf_counter() - began
            for stage in stages:
                if stage.stage not in tasks:
                    tasks[stage.stage] = bars.add_task(stage.stage, total=None, note="")
                bars.update(
                    tasks[stage.stage],
                    total=stage.total or None,
                    completed=stage.counts.get(JobState.DONE, 0),
                    note=_note(stage),
                )
            if not console.is_terminal and time.monotonic() - said >= LINE_SECONDS:
                said = time.monotonic()
                now = {stage.stage: summary(stage) for stage in stages}
                for line in [line for stage, line in now.items() if line != lines.get(stage)]:
                    console.print(line, highlight=False, markup=False)
                lines = now
            if state is not None and state.ended:
                return state
            time.sleep(max(POLL_SECONDS, COST * took))


def summary(stage: StageProgress) -> str:
    """Say how the jobs of a stage stand, as ``science: 40 of 48 done, 1 failed, 7 active``."""
    done = f"{stage.counts.get(JobState.DONE, 0)} of {stage.total} done" if stage.revisions else ""
    return f"{stage.stage}: {', '.join(filter(None, (done, _note(stage))))}"


def _stages(site: Site, name: str) -> list[StageProgress]:
    with site.database.reading() as session:
        return progress(session, campaign_named(session, name).id)


def _note(stage: StageProgress) -> str:
    if not stage.revisions:
        return "not planned yet"
    counts = [f"{count} {state}" for state, count in stage.counts.items() if state is not JobState.DONE]
    return ", ".join(counts + ([f"{stage.stale} stale"] if stage.stale else []))
