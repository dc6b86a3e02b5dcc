"""``nightmill record``: drain the spool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from nightmill.cli._shape import SiteFolder

EXAMPLES: Final = (
    "nightmill record",
    "nightmill record --host-lost node7 --why 'burnt, will not come back'",
)


def record(
    spool: Annotated[Path | None, typer.Option(help="Another spool than the site's.")] = None,
    site: Annotated[Path | None, typer.Option(help="Folder of the site.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Record every journal of the spool, and end the attempts of processes that died.

    Doing it twice changes nothing. Submit, rerun and every slice begin with it by themselves.
    """
    from nightmill.cli._output import print_json
    from tasks.site import open_site
    from tasks.spool import drain

    with open_site(site) as opened:
        drained = drain(opened, spool=spool)
    told = drained.recorded
    counts = {
        "journals": drained.journals,
        "published": len(told.published),
        "failed": len(told.failed),
        "superseded": len(told.superseded),
        "running": len(told.running),
        "adopted": len(drained.adopted),
        "lost": drained.lost,
        "unknown": [str(attempt) for attempt in told.unknown],
    }
    if as_json:
        print_json(counts)
        return
    typer.echo(", ".join(f"{count} {name}" for name, count in counts.items() if name != "unknown"))
    for attempt in told.unknown:
        typer.echo(f"unknown here, its journal stays in the spool: {attempt}", err=True)
