"""How verbs speak: tables for people, JSON for programs, progress where a terminal watches."""

from __future__ import annotations

import json
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import typer

from nightmill.cli.documents import Document
from nightmill.errors import NightmillError

PROGRESS_AFTER_SECONDS: Final = 1.0

_OBEYED: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a terminal would obey, or show in another order, or cannot show at all; but for line ends and tabs."""
_LINE_ENDS: Final = re.compile("[\t\n\u2028\u2029]")
COLUMNS_APART: Final = "  "

Report = Callable[[int, int], None]
"""Is told how much is done, of how much."""


def plain(text: str) -> str:
    """Write a text so that no terminal obeys any of it: an escape character as Python's ``repr`` does.

    Names of files, headers, logs and what people typed come from anywhere. Everything that a verb prints for people
    goes through here.
    """
    return _OBEYED.sub(_written, text)


def plain_line(text: str) -> str:
    """Write a text as :func:`plain` does, and its line ends too: for what may not make a line of its own."""
    return _LINE_ENDS.sub(_written, plain(text))


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text for people."""
    typer.echo(plain(str(text)), err=err, nl=nl)


def secho(text: str, *, err: bool = False, nl: bool = True, fg: str | None = None, bold: bool | None = None) -> None:
    """Print a text for people, with a colour where a terminal watches."""
    typer.secho(plain(text), err=err, nl=nl, fg=fg, bold=bold)


def print_error(error: NightmillError) -> None:
    """Tell on stderr why a request was not carried out."""
    secho("nightmill: ", fg=typer.colors.RED, bold=True, nl=False, err=True)
    echo(str(error), err=True)


def say(message: str) -> None:
    """Tell on stderr what goes on."""
    echo(message, err=True)


def print_json(value: Document | Sequence[Document]) -> None:
    """Print a document, or a list of them, for programs: times as ISO 8601, bytes as hexadecimal digits.

    What a terminal would obey stands in it by its number, as JSON can write it: a program reads it as it was.
    """
    typer.echo(_as_json(value))


def print_json_rows(rows: Iterable[object]) -> None:
    """Print a list for programs as :func:`print_json` does, each of its values when it comes."""
    begun = False
    for row in rows:
        typer.echo(",\n" if begun else "[\n", nl=False)
        written = _as_json(row)
        typer.echo("  " + written.replace("\n", "\n  "), nl=False)
        begun = True
    typer.echo("\n]" if begun else "[]")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows: a table where a terminal watches, else tab-separated lines below one of the columns' names."""
    if not sys.stdout.isatty():
        echo("\t".join(columns))
        for row in rows:
            echo("\t".join(" ".join(text(value).split()) for value in row))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Column, Table
    from rich.text import Text

    # A name of a file that is cut short is of no use to anybody.
    table = Table(*(Column(name, overflow="fold") for name in columns), box=SIMPLE_HEAD, pad_edge=False)
    cells = [[plain(text(value)) for value in row] for row in rows]
    for row in cells:
        table.add_row(*map(Text, row))
    console = Console()
    unbounded = console.options.update(max_width=sys.maxsize)
    if Measurement.get(console, unbounded, table).maximum <= console.width:
        console.print(table)
        return
    for first, *others in cells:  # too wide: a block for each row
        echo(first)
        for line in _flowing(columns[1:], others, console.width - 2):
            echo(f"  {line}")


def _flowing(columns: Sequence[str], values: Sequence[str], width: int) -> Iterator[str]:
    """Yield lines with columns and their values, as many on a line as go; those without a value are left out."""
    line = ""
    for column, value in zip(columns, values, strict=True):
        part = f"{column}: {' '.join(value.split())}"
        if not value:
            continue
        if line and len(line) + len(COLUMNS_APART) + len(part) > width:
            yield line
            line = ""
        line += (COLUMNS_APART if line else "") + part
        if len(line) > width:
            *whole, line = textwrap.wrap(line, width, subsequent_indent="  ", break_on_hyphens=False)
            yield from whole
    if line:
        yield line


def some(names: Sequence[str], most: int, between: str = ", ") -> str:
    """Name the first of some things, and count the others."""
    return between.join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print names with their values, one a line; those without a value are left out."""
    known = [(name, text(value)) for name, value in facts if value not in (None, "", {}, [])]
    width = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        secho(f"{name:<{width}}  ", bold=True, nl=False)
        echo(value)


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
def progress(what: str, *, in_bytes: bool = False) -> Iterator[Report | None]:
    """Give what shows a progress bar on stderr once something takes longer than a second; None without a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    done = (DownloadColumn(), TransferSpeedColumn()) if in_bytes else (MofNCompleteColumn(),)
    columns = (TextColumn("{task.description}"), BarColumn(), *done, TimeRemainingColumn())
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


def _written(found: re.Match[str]) -> str:
    code = ord(found[0])
    # A byte that is not text came as a surrogate.
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else repr(found[0])[1:-1]


def _as_json(value: object) -> str:
    written = json.dumps(value, indent=2, default=_for_json, ensure_ascii=False)
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", written)


def json_line(value: object) -> str:
    """Write a value for programs on one line."""
    return json.dumps(value, ensure_ascii=False, default=_for_json)


def _for_json(value: Any) -> object:
    """Return for :func:`json.dumps` what it does not know by itself."""
    if isinstance(value, Document):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    if isinstance(value, Decimal):
        return float(value)
    return str(value)
