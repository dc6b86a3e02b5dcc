"""How verbs speak: tables for people, JSON for programs, progress where a terminal watches."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import typer

from nightmill.errors import NightmillError

PROGRESS_AFTER_SECONDS: Final = 1.0

Report = Callable[[int, int], None]
"""Is told how much is done, of how much."""


def print_error(error: NightmillError) -> None:
    """Tell on stderr why a request was not carried out."""
    typer.secho("nightmill: ", fg=typer.colors.RED, bold=True, nl=False, err=True)
    typer.echo(str(error), err=True)


def print_json(value: object) -> None:
    """Print a value for programs: times as ISO 8601, bytes as hexadecimal digits."""
    typer.echo(json.dumps(value, indent=2, default=_plain, ensure_ascii=False))


def print_json_rows(rows: Iterable[object]) -> None:
    """Print a list for programs as :func:`print_json` does, each of its values when it comes."""
    begun = False
    for row in rows:
        typer.echo(",\n" if begun else "[\n", nl=False)
        written = json.dumps(row, indent=2, default=_plain, ensure_ascii=False)
        typer.echo("  " + written.replace("\n", "\n  "), nl=False)
        begun = True
    typer.echo("\n]" if begun else "[]")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows: a table where a terminal watches, else tab-separated lines below one of the columns' names."""
    if not sys.stdout.isatty():
        typer.echo("\t".join(columns))
        for row in rows:
            typer.echo("\t".join(_one_line(value) for value in row))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    # A name of a file that is cut short is of no use to anybody.
    table = Table(*(Column(name, overflow="fold") for name in columns), box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(text(value)) for value in row))
    Console().print(table)


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print names with their values, one a line; those without a value are left out."""
    known = [(name, text(value)) for name, value in facts if value not in (None, "", {}, [])]
    width = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        typer.secho(f"{name:<{width}}  ", bold=True, nl=False)
        typer.echo(value)


def text(value: object) -> str:
    """Write a value for people."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, dict):
        return ", ".join(f"{key}={each}" for key, each in value.items())
    return str(value)


@contextmanager
def progress(what: str) -> Iterator[Report | None]:
    """Give what shows a progress bar on stderr once something takes longer than a second; None without a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(what, total=None)
    begun = time.monotonic()

    def report(done: int, total: int) -> None:
        if time.monotonic() - begun > PROGRESS_AFTER_SECONDS:
            bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield report
    finally:
        bar.stop()


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show on stderr that something goes on whose end cannot be told; nothing without a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


def _one_line(value: object) -> str:
    return " ".join(text(value).split())


def _plain(value: Any) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    if isinstance(value, Decimal):
        return float(value)
    return str(value)
