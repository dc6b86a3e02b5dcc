"""``nightmill record``: drain the spool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from nightmill.cli.render.output import echo
from nightmill.cli.shape import SiteFolder

EXAMPLES: Final = (
    "nightmill record",
    "nightmill record --host-lost node7 --why 'burnt, will not come back'",
)


def record(
    spool: Annotated[Path | None, typer.Option(metavar="DIR", help="Another spool than the site's.")] = None,
    host_lost: Annotated[
        str, typer.Option(metavar="HOST", help="First declare a host lost for good: no process of it lives.")
    ] = "",
    why: Annotated[str, typer.Option(metavar="TEXT", help="How you know that it is lost; kept with the act.")] = "",
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Record the journals that wait in the spool.

    The attempts of processes that died are ended. Doing it twice changes nothing. Submit, rerun, status and every slice
    begin with it by themselves.

    A journal that is damaged, or tells what cannot be so, is set apart; exit code 1 says that one was, or that
    something waits for a store.
    """
    from nightmill.cli.documents.sites import Quarantined, Record
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.output import print_json, say
    from nightmill.errors import RequestRefused
    from nightmill.operations.drain import drain
    from nightmill.operations.lost_hosts import declare_lost

    if bool(host_lost) != bool(why):
        raise RequestRefused("--host-lost and --why go together", remedy="say which host, and how you know")
    with open_without_types(site) as opened:
        if host_lost:
            declare_lost(opened, host_lost, why=why)
        drained = drain(opened, spool=spool, say=say)
    told = drained.recorded
    record = Record(
        journals=drained.journals,
        published=len(told.published),
        failed=len(told.failed),
        superseded=len(told.superseded),
        running=len(told.running),
        adopted=len(drained.adopted),
        lost=drained.lost,
        unknown=[str(attempt) for attempt in told.unknown],
        waiting={str(attempt): str(error) for attempt, error in drained.waiting.items()},
        quarantined=[Quarantined(journal=str(each.path), why="\n".join(each.why)) for each in drained.quarantined],
    )
    if as_json:
        print_json(record)
    else:
        echo(", ".join(f"{count} {name}" for name, count in vars(record).items() if isinstance(count, int)))
    for attempt, error in drained.waiting.items():
        echo(f"waits for a store: {attempt}: {error}", err=True)
    for each in drained.quarantined:
        echo(f"set apart: {each}", err=True)
    if drained.waiting or drained.quarantined:
        raise typer.Exit(1)
