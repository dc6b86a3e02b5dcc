"""Watching campaigns: a screen that can be left open all night, and lines where no terminal watches."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nightmill.backbone.schema import CampaignRow
from nightmill.backbone.work.campaigns import GOING_ON, StageProgress, progress_of
from nightmill.backbone.work.overview import Failures, failures_of, hosts_of
from nightmill.backbone.work.steering import of_row
from nightmill.cli.render.output import echo, plain_line
from nightmill.cli.render.pace import Pace
from nightmill.cli.render.standing import RECONCILE_SECONDS, WATCH_SECONDS, drain_first, is_open, jobs_go_on, rows_of
from nightmill.cli.render.watch import COST, LINE_SECONDS, summary
from nightmill.clock import utc_now
from nightmill.errors import ServiceError
from nightmill.model.conducting import Seen
from nightmill.model.ports import Conductor
from nightmill.model.states import JobState
from nightmill.operations.patience import who_waits
from nightmill.operations.site import Site

Show = Callable[["Sight"], None]
Wait = Callable[[float], bool]

FAILURES: Final = 5
"""Kinds of failures that are shown of a campaign."""
NOTICES: Final = 5


@dataclass
class Sight:
    """What was seen of campaigns last, and what is in the way of seeing more."""

    at: datetime
    rows: Sequence[CampaignRow] = ()
    others: int = 0
    """How many campaigns there are beside."""
    stages: Mapping[int, Sequence[StageProgress]] = field(default_factory=dict)
    failures: Mapping[int, Sequence[Failures]] = field(default_factory=dict)
    hosts: Mapping[str, int] = field(default_factory=dict)
    seen: Seen = field(default_factory=Seen)
    away: str = ""
    """Why the database, or the spool, cannot be asked."""
    away_since: datetime | None = None
    told: Sequence[str] = ()
    """What was said of the spool."""
    pace: Pace = field(default_factory=Pace)

    @property
    def open_rows(self) -> list[CampaignRow]:
        """The campaigns of which something may change by itself."""
        runs = self.seen.states
        return [row for row in self.rows if is_open(self.stages.get(row.id, ()), runs.get(row.flow_run_id or ""))]

    @property
    def notices(self) -> list[str]:
        """What is in the way."""
        lines = []
        if self.away_since is not None:
            since, at = f"{self.away_since:%H:%M:%S}", f"{self.at:%H:%M:%S}"
            lines.append(f"{self.away}, since {since} UTC: this is what was known at {at}")
        if self.seen.away:
            lines.append(f"Prefect was not reached ({self.seen.away}): this is what the backbone knows")
        return lines + [*self.told][:NOTICES]


def watch_status(site: Site, conductor: Conductor, campaign: str | None, *, everything: bool) -> bool:
    """Show how campaigns stand until one that was named has come to its end, or whoever watches leaves.

    Outages of the database and of Prefect's server are shown, and outlasted. On a terminal, all of a site is watched
    until somebody leaves; elsewhere, as long as something goes on.

    Returns
    -------
    bool
        Whether there is nothing more to watch: else somebody left, and a terminal has the last picture.

    Raises
    ------
    UnknownName
        Where there is no such campaign.
    """
    console = Console()
    sight, reconcile_at = Sight(utc_now()), 0.0
    with ExitStack() as stack:
        show = stack.enter_context(_screen(site, console) if console.is_terminal else _lines())
        wait = stack.enter_context(_keys())
        stack.enter_context(suppress(KeyboardInterrupt))
        while True:
            began = time.monotonic()
            is_due = began >= reconcile_at
            if is_due:
                reconcile_at = began + RECONCILE_SECONDS
            _look(site, conductor, sight, campaign, everything=everything, reconcile=is_due)
            show(sight)
            open_rows = sight.open_rows
            if not (open_rows or sight.away or (campaign is None and console.is_terminal)):
                return True
            if open_rows and not any(jobs_go_on(sight.stages[row.id]) for row in open_rows):
                reconcile_at = 0.0  # only Prefect tells whether the next stage will be planned
            took = 0.0 if is_due else time.monotonic() - began
            if wait(max(WATCH_SECONDS, COST * took)):
                break
    if console.is_terminal:
        console.print(picture(site.config.name, sight))
    return False


def _look(
    site: Site, conductor: Conductor, sight: Sight, campaign: str | None, *, everything: bool, reconcile: bool
) -> None:
    """Look at campaigns again; where that fails, what was seen before stays."""
    try:
        if reconcile:
            told: list[str] = []
            drain_first(site, told.append)
            sight.told = told
        rows, others = rows_of(site, campaign, everything)
        ids = [row.id for row in rows]
        with site.database.reading() as session:
            stages, failures = progress_of(session, rows), failures_of(session, ids)
            hosts = hosts_of(session, ids)
        if reconcile:
            sight.seen = conductor.reconcile(campaign, [row.flow_run_id for row in rows if row.flow_run_id])
    except ServiceError as error:
        sight.away, sight.away_since = error.message, sight.away_since or utc_now()
        sight.told = [str(waiting) for waiting in who_waits(site.config.spool)]
        return
    sight.rows, sight.others, sight.stages, sight.failures, sight.hosts = rows, others, stages, failures, hosts
    sight.at, sight.away, sight.away_since = utc_now(), "", None
    seen_at = time.monotonic()
    for number, of_campaign in stages.items():
        for stage in of_campaign:
            sight.pace.note((number, stage.stage), stage.total - _left(stage), seen_at)
    sight.pace.keep({(number, stage.stage) for number, each in stages.items() for stage in each})


@contextmanager
def _keys() -> Iterator[Wait]:
    """Give what waits for so many seconds, or until somebody types q; then it says so."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):

        def sleep(seconds: float) -> bool:
            time.sleep(seconds)
            return False

        yield sleep
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)

    def wait(seconds: float) -> bool:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([keyboard], [], [], left)[0]:
                typed = os.read(keyboard, 100)
                if not typed or b"q" in typed.lower():
                    return True
        return False

    tty.setcbreak(keyboard)
    try:
        yield wait
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


@contextmanager
def _screen(site: Site, console: Console) -> Iterator[Show]:
    """Give what draws on the whole terminal; what stood there before comes back in the end."""
    with Live(console=console, screen=True, auto_refresh=False) as live:
        yield lambda sight: live.update(picture(site.config.name, sight), refresh=True)


@contextmanager
def _lines() -> Iterator[Show]:
    """Give what prints a line for each stage that has changed, every few seconds, and at last for each that has."""
    printed: dict[str, str] = {}
    said_at, last = 0.0, None

    def put(sight: Sight) -> None:
        lines = {notice: notice for notice in sight.notices}
        for row in sight.rows:
            for stage in sight.stages.get(row.id, ()):
                lines[f"{row.name}/{stage.stage}"] = f"{row.name}: {summary(stage)}"
        for key, line in lines.items():
            if printed.get(key) != line:
                echo(f"{utc_now():%H:%M:%S} {plain_line(line)}", err=key == line)
        printed.clear()
        printed.update(lines)

    def show(sight: Sight) -> None:
        nonlocal said_at, last
        last = sight
        if not printed or time.monotonic() - said_at >= LINE_SECONDS:
            said_at = time.monotonic()
            put(sight)

    try:
        yield show
    finally:
        if last is not None:
            put(last)


def picture(name: str, sight: Sight) -> RenderableType:
    """Draw how campaigns stand."""
    parts: list[RenderableType] = [Text(f"{name}  {utc_now():%Y-%m-%d %H:%M:%S} UTC  (q leaves)", style="dim")]
    parts += [Text(plain_line(notice), style="yellow") for notice in sight.notices]
    going_on = sight.open_rows
    for row in [*going_on, *(row for row in sight.rows if row not in going_on)]:
        run = sight.seen.states.get(row.flow_run_id or "")
        parts += [
            "",
            Text(f"{row.name} ({row.pipeline} {row.pipeline_version}){f' {run.name}' if run else ''}", "bold"),
        ]
        if (steering := of_row(row)).halts:
            parts.append(Text(plain_line(str(steering)), style="yellow"))
        parts.append(_table(row, sight))
        kinds = sight.failures.get(row.id, ())
        parts += [Text(plain_line(_told(each)), style="red") for each in kinds[:FAILURES]]
        if more := sum(each.count for each in kinds[FAILURES:]):
            parts.append(Text(f"... and {more:,} more failed: nightmill status {row.name}", style="red"))
    if sight.hosts:
        hosts = ", ".join(f"{host} {count:,}" for host, count in sight.hosts.items())
        parts += ["", Text(plain_line(f"jobs on hosts: {hosts}"))]
    if sight.others:
        parts.append(Text(f"{sight.others:,} more campaigns, all of them at their end", style="dim"))
    return Group(*parts)


def _table(row: CampaignRow, sight: Sight) -> Table:
    columns = ("jobs", "done", "active", "waiting", "failed", "held", "an hour", "ends about")
    table = Table("stage", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right")
    for stage in sight.stages.get(row.id, ()):
        key, counts = (row.id, stage.stage), stage.counts
        rate, end = sight.pace.per_hour(key), sight.pace.ends_at(key, _left(stage), sight.at)
        waiting = counts.get(JobState.PLANNED, 0) + counts.get(JobState.READY, 0)
        held = counts.get(JobState.HELD, 0) + stage.left_out.get("hold", 0)
        numbers = (counts.get(JobState.DONE, 0), counts.get(JobState.ACTIVE, 0), waiting)
        table.add_row(
            Text(stage.stage),
            f"{stage.total:,}" if stage.revisions else "not planned yet",
            *(f"{each:,}" for each in numbers),
            Text(f"{(failed := counts.get(JobState.FAILED, 0)):,}", style="red" if failed else ""),
            f"{held:,}",
            "" if not rate else f"{rate:,.0f}",
            "" if end is None else f"{end:%H:%M}" if end.date() == sight.at.date() else f"{end:%Y-%m-%d %H:%M}",
        )
    return table


def _told(failures: Failures) -> str:
    of = ": ".join(filter(None, (failures.stage, failures.step, failures.fate, failures.error)))
    return f"{failures.count:,} failed in {of}, such as {failures.stage}/{failures.example}"


def _left(stage: StageProgress) -> int:
    return sum(stage.counts.get(state, 0) for state in GOING_ON)
