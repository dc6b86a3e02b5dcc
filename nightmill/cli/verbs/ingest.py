"""``nightmill ingest``: files into the backbone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from nightmill.cli.completing import file_types, stores
from nightmill.cli.render.output import echo, plain_line
from nightmill.cli.shape import SiteFolder

if TYPE_CHECKING:
    from nightmill.operations.ingest.take_in import IngestResult

EXAMPLES: Final = (
    "nightmill ingest night/ --type raw_science --origin raw",
    "nightmill ingest night/ --origin raw --dry-run",
    'nightmill ingest badpixels.fits --type mask --origin manual --provenance "drawn by hand, after the repair"',
)


def ingest(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH",
            help="Files, and folders with all below them; STORE:PATH is what lies in a store of the site.",
        ),
    ],
    origin: Annotated[
        Literal["raw", "manual"],
        typer.Option(help="raw: delivered by an instrument. manual: made by something or somebody else."),
    ],
    type_: Annotated[
        str,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="Their file type; without it each is sorted by what it says of itself.",
            autocompletion=file_types,
        ),
    ] = "",
    provenance: Annotated[
        str, typer.Option(metavar="TEXT", help="Where they come from, in words; required of manual files.")
    ] = "",
    mode: Annotated[
        Literal["copy", "link", "move", "in-place"],
        typer.Option(
            help="What becomes of them: copied, hard-linked, moved, or registered where they lie in the store."
        ),
    ] = "copy",
    store: Annotated[
        str, typer.Option(metavar="STORE", help="Which store; by default the site's first.", autocompletion=stores)
    ] = "",
    folder: Annotated[
        str,
        typer.Option("--folder", metavar="FOLDER", help="Folder of the store; by default raw/NIGHT, or manual/TYPE."),
    ] = "",
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Take in what symbolic links point to; they are refused otherwise.")
    ] = False,
    add_copies: Annotated[
        bool, typer.Option("--add-copies", help="Give files that are registered, and not in the store, a copy there.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be read of each file, and register nothing.")
    ] = False,
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what became of each file as JSON.")] = False,
) -> None:
    """Take files into the backbone.

    Check them, read their metadata, bring them into the store, register them. A file that cannot be taken in is refused
    by name and reason, and the others go in. Exit code 1 where some were refused. An ingest that was interrupted is
    simply typed again.
    """
    from nightmill.cli.render.output import progress
    from nightmill.model.origin import Origin
    from nightmill.operations.ingest.placement import Mode
    from nightmill.operations.ingest.take_in import IngestResult
    from nightmill.operations.ingest.take_in import ingest as take_in
    from nightmill.operations.site import open_site

    result = IngestResult()
    try:
        with open_site(site) as opened, progress("ingest") as report:
            take_in(
                opened,
                paths,
                type=type_,
                origin=Origin(origin),
                provenance=provenance,
                mode=Mode(mode),
                store=store,
                folder=folder,
                follow_links=follow_links,
                add_copies=add_copies,
                dry_run=dry_run,
                report=report,
                tell=lambda words: echo(words, err=True),
                result=result,
            )
    finally:
        if result.found:  # also where it ends with an error: what was registered stays
            if dry_run:
                from nightmill.cli.render.foreseen import tell_foreseen

                tell_foreseen(result, as_json=as_json)
            else:
                _tell(result, as_json=as_json, sorted_in=not type_)
    if result.refused:
        raise typer.Exit(1)


def _tell(result: IngestResult, *, as_json: bool, sorted_in: bool) -> None:
    """Say what became of every file that was found."""
    from nightmill.cli.documents import told
    from nightmill.cli.documents.files import Ingest, Refused, Skipped
    from nightmill.cli.render.foreseen import registered_file, tell_others, tell_warnings
    from nightmill.cli.render.output import print_json
    from nightmill.model.base import grouped

    open_ = result.found - len(result.registered) - len(result.copied) - len(result.skipped) - len(result.refused)
    if as_json:
        print_json(
            Ingest(
                registered=[registered_file(each) for each in result.registered],
                copied=[registered_file(each) for each in result.copied],
                skipped=[told(Skipped, each, path=str(each.path)) for each in result.skipped],
                refused=[told(Refused, each, path=str(each.path)) for each in result.refused],
                left=[str(path) for path in result.left],
                hidden=[str(path) for path in result.hidden],
                not_reached=open_,
            )
        )
    else:
        counts = [
            f"{len(result.registered)} registered, {len(result.skipped)} there already, {len(result.refused)} refused"
        ]
        counts += [f"{len(result.copied)} copied of those there already"] if result.copied else []
        counts += [f"{len(result.hidden)} hidden and passed over"] if result.hidden else []
        counts += [f"{open_} not come to"] if open_ else []
        echo(", ".join(counts))
        for type_, count in Counter(each.type for each in result.registered if sorted_in).items():
            echo(f"  {count} registered as {type_}")
        for each in result.registered:
            if each.name != each.path.name:
                echo(f"  {plain_line(str(each.path))} is now {each.name}")
    left_out = grouped((why, each.name) for each in result.registered for why in each.left_out)
    for why, names in left_out.items():
        more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
        echo(f"registered without {plain_line(why)} ({names[0]}{more})", err=True)
    tell_warnings(each.warnings for each in result.registered)
    for path in result.left:
        echo(f"registered, and still there: {plain_line(str(path))}", err=True)
    tell_others(result)
