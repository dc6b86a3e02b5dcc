"""``nightmill run``: one order, here, now."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from nightmill.cli._output import echo

EXAMPLES: Final = ("nightmill run order.json --keep",)


def run(
    order: Annotated[
        Path, typer.Argument(metavar="ORDER", help="The order, as 'nightmill show JOB --order' writes it.")
    ],
    scratch: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the scratch; by default the site's.")
    ] = None,
    spool: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the journal; by default the site's spool.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the scratch, to look into it.")] = False,
    site: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the site; needed only for the two defaults.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Run one order, here and now, without a database or a server.

    What happens is told in a journal; 'nightmill record' brings it into the backbone.
    """
    from nightmill.execution.job import JobContext
    from nightmill.execution.jobs import run_jobs
    from nightmill.execution.journal import JournalWriter
    from nightmill.model.access import Access
    from nightmill.model.fate import AttemptState
    from stagers import open_stagers

    job = _read(order)
    access = Access.PRIVATE
    if scratch is None or spool is None:
        from nightmill.config.site import load_site

        config = load_site(site, need_types=False)
        scratch, spool, access = scratch or config.scratch, spool or config.spool, config.access
    os.umask(access.umask)
    with JournalWriter(spool.resolve()) as journal:
        context = JobContext(open_stagers(job.stores), scratch.resolve(), journal, keep_scratch=keep)
        [report] = run_jobs([job], context)
    if as_json:
        echo(report.model_dump_json(exclude={"order"}))
    else:
        echo(f"{job.attempt}: {report.state}")
        for step in report.steps:
            cost = step.cost
            spent = f"{cost.wall_seconds:.2f} s, {cost.max_rss_bytes / 1e6:.0f} MB" if cost else ""
            echo(f"  {step.name}: exit code {step.exit_code}  {spent}")
        for file in report.published:
            echo(f"  {file.role}: {file.name} ({file.size_bytes} bytes) in {file.store}")
        echo(f"  journal: {journal.path}")
    if report.state is not AttemptState.PUBLISHED:
        echo(report.evidence, err=True)
        raise typer.Exit(1)


def _read(path: Path):  # type: ignore[no-untyped-def]
    from pydantic import ValidationError

    from nightmill.errors import ConfigError
    from nightmill.model.order import JobOrder

    try:
        return JobOrder.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError("there is no such file", where=str(path)) from None
    except OSError as error:
        raise ConfigError(f"it cannot be read: {error.strerror}", where=str(path)) from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(
            f"this is no order: {key}: {first['msg']}",
            where=str(path),
            remedy="write it anew with 'nightmill show JOB --order'",
        ) from error
