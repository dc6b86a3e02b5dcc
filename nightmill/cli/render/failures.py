"""Failed jobs by the names of their errors, for people."""

from __future__ import annotations

from collections.abc import Iterable

from nightmill.backbone.work.campaigns import JobLine
from nightmill.backbone.work.overview import Accepted
from nightmill.cli.render.output import echo
from nightmill.model.states import JobState
from nightmill.planning.problems import counted


def show_failures(lines: Iterable[JobLine]) -> None:
    """Print each error that jobs failed of or are held for, the most common first, with what it means."""
    groups: dict[tuple[str, str, str], int] = {}
    for line in lines:
        if line.error and line.state in (JobState.FAILED, JobState.HELD):
            key = (line.error, line.explanation, line.link)
            groups[key] = groups.get(key, 0) + 1
    for (error, explanation, link), count in sorted(groups.items(), key=lambda group: -group[1]):
        echo(f"error {_told(error, count, explanation, link)}")


def show_accepted(found: Iterable[Accepted]) -> None:
    """Print each error that was accepted in jobs, with what it means."""
    for each in found:
        echo(f"accepted {_told(each.error, each.jobs, each.explanation, each.link)}")


def _told(error: str, count: int, explanation: str, link: str) -> str:
    return f"{error}: {counted(count, 'job')}: {explanation}{f' ({link})' if link else ''}"
