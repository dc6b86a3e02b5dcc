"""``nightmill ingest``: files into the backbone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from nightmill.cli._shape import SiteFolder

if TYPE_CHECKING:
    from tasks.ingest import IngestResult

EXAMPLES: Final = (
    "nightmill ingest night/ --type raw_science --origin raw",
    'nightmill ingest badpixels.fits --type mask --origin manual --provenance "drawn by hand, after the repair"',
)


def ingest(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Files, and folders with all below them.")],
    type_: Annotated[str, typer.Option("--type", metavar="TYPE", help="Their file type.")],
    origin: Annotated[
        Literal["raw", "manual"],
        typer.Option(help="raw: delivered by an instrument. manual: made by something or somebody else."),
    ],
    provenance: Annotated[
        str, typer.Option(metavar="TEXT", help="Where they come from, in words; required of manual files.")
    ] = "",
    mode: Annotated[
        Literal["copy", "link", "move", "in-place"],
        typer.Option(
            help="What becomes of them: copied, hard-linked, moved, or registered where they lie in the store."
        ),
    ] = "copy",
    store: Annotated[str, typer.Option(metavar="STORE", help="Which store; by default the site's first.")] = "",
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what became of each file as JSON.")] = False,
) -> None:
    """Take files into the backbone.

    Check them, read their metadata, bring them into the store, register them. A file that cannot be taken in is refused
    by name and reason, and the others go in. Exit code 1 where some were refused. An ingest that was interrupted is
    simply typed again.
    """
    from nightmill.cli._output import print_json, progress
    from nightmill.model.fate import Origin
    from tasks.ingest import ingest as take_in
    from tasks.placement import Mode
    from tasks.site import open_site

    with open_site(site) as opened, progress("ingest") as report:
        result = take_in(
            opened,
            paths,
            type=type_,
            origin=Origin(origin),
            who=opened.operator("ingest"),
            provenance=provenance,
            mode=Mode(mode),
            store=store,
            report=report,
        )
    if as_json:
        print_json(
            {
                "registered": [
                    {"path": str(each.path), "name": each.name, "left_out": each.left_out} for each in result.registered
                ],
                "skipped": [{"path": str(each.path), "name": each.name} for each in result.skipped],
                "refused": [
                    {"path": str(each.path), "reason": each.reason, "message": each.message} for each in result.refused
                ],
                "left": [str(path) for path in result.left],
            }
        )
    else:
        typer.echo(
            f"{len(result.registered)} registered, {len(result.skipped)} there already, {len(result.refused)} refused"
        )
        for each in result.registered:
            if each.name != each.path.name:
                typer.echo(f"  {each.path} is now {each.name}")
    for why, names in _left_out(result).items():
        more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
        typer.echo(f"registered without {why} ({names[0]}{more})", err=True)
    for path in result.left:
        typer.echo(f"registered, and still there: {path}", err=True)
    for refused in result.refused:
        typer.echo(f"refused ({refused.reason}): {refused.message}", err=True)
    if result.refused:
        raise typer.Exit(1)


def _left_out(result: IngestResult) -> dict[str, list[str]]:
    """Return what was left out of the metadata of files, with their names."""
    files: dict[str, list[str]] = {}
    for each in result.registered:
        for why in each.left_out:
            files.setdefault(why, []).append(each.name)
    return files
