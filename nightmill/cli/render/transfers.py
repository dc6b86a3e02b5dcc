"""Transfers between sites, for people and programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from nightmill.cli.documents import told
from nightmill.cli.documents.transfers import BroughtHome, Route
from nightmill.cli.render.output import echo, print_json, print_table, say

if TYPE_CHECKING:
    from nightmill.backbone.catalogue import transfers
    from nightmill.operations.transport import home

COLUMNS: Final = ("campaign", "for", "from", "to", "files", "MB", "s", "MB/s", "failed")


def show_brought(found: Sequence[home.BroughtHome], *, dry_run: bool, as_json: bool) -> None:
    """Print a line for each campaign of which something came home, or did not."""
    if as_json:
        print_json([told(BroughtHome, each) for each in found])
        return
    verb = "would come" if dry_run else "came"
    for each in found:
        size = f"{each.size_bytes / 1e6:,.1f} MB"
        echo(f"{each.campaign}: {each.files} files, {size}, {verb} home from site {each.site}")
        for name, why in each.failed.items():
            say(f"{each.campaign}: {name} did not come: {why}")
    if not found:
        echo("nothing is to come home")


def show_routes(found: Sequence[transfers.Route], *, as_json: bool) -> None:
    """Print a line for each way on which something came."""
    if as_json:
        print_json([told(Route, each) for each in found])
        return
    print_table(COLUMNS, map(_row, found))


def _row(route: transfers.Route) -> tuple[object, ...]:
    rate = route.bytes_per_second
    return (
        route.campaign,
        route.purpose,
        route.source,
        route.target,
        route.files,
        f"{route.size_bytes / 1e6:,.1f}",
        f"{route.wall_seconds:.3g}",
        "" if rate is None else f"{rate / 1e6:.3g}",
        route.failed or "",
    )
