"""``nightmill retain``: remove what is older than the site keeps it."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from nightmill.cli.render.output import echo, text
from nightmill.cli.shape import SiteFolder

EXAMPLES: Final = ("nightmill retain --dry-run",)


def retain(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Compress and remove journals and logs, and remove what failed attempts left, by the site's retention.

    The server does it once a day. A journal is removed once everything that it tells is on record, and in a backup of
    the database that was verified.
    """
    from flows.hosting.growth import cut_logs
    from nightmill.cli.documents import told
    from nightmill.cli.documents.sites import Retained
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.output import print_json
    from nightmill.operations.retain import retain as retain_site

    now = datetime.now(UTC)
    with open_without_types(site) as opened:
        done = retain_site(opened, now=now, dry_run=dry_run)
        logs = cut_logs(opened.config.directory, opened.config.retention, now=now, dry_run=dry_run)
    if as_json:
        print_json(told(Retained, done, logs=[str(path) for path in logs]))
        return
    verb = "would be " if dry_run else ""
    echo(f"{done.compressed} journals {verb}compressed, {done.removed} {verb}removed, {len(logs)} logs {verb}removed")
    if done.held:
        echo(f"{done.held} files that failed attempts had left {verb}removed")
    if done.held_left:
        until = f"until {text(done.held_until)}" if done.held_until else "for ever"
        echo(f"{done.held_left} files that failed attempts left ({done.held_bytes / 1e6:.1f} MB) are kept, {until}")
    for why, count in Counter(done.kept.values()).most_common(10):
        echo(f"{count} older journals stay: {why}")
