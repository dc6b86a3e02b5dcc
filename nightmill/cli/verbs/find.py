"""``nightmill find``: files by what they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nightmill.cli.completing import file_types
from nightmill.cli.shape import SiteFolder
from nightmill.model.origin import Origin

if TYPE_CHECKING:
    from nightmill.operations.find import CataloguedFile
    from nightmill.operations.site import Site


EXAMPLES: Final = (
    "nightmill find --type raw_science --where 'night == 20260110 and detector in [1, 2]'",
    "nightmill find --overlaps 150.1,2.2,0.5",
    "nightmill find --refused",
)


def find(
    type_: Annotated[
        list[str] | None,
        typer.Option(
            "--type", metavar="TYPE", help="Of this file type; may be given again.", autocompletion=file_types
        ),
    ] = None,
    where: Annotated[
        str, typer.Option(metavar="EXPR", help='An expression, as \'night == 20260110 and band in ["g", "r"]\'.')
    ] = "",
    overlaps: Annotated[
        str, typer.Option(metavar="PLACE", help="Whose footprint touches RA,DEC[,RADIUS] in degrees, or TILING:TILE.")
    ] = "",
    key: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="KEY", help="Show this key of metadata, too; may be given again."),
    ] = None,
    origin: Annotated[
        list[Origin] | None,
        typer.Option(metavar="ORIGIN", help="Of this origin (raw, manual or batch); may be given again."),
    ] = None,
    level: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Products whose inputs were found by lookups of this level, at worst."),
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="At most so many.")] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="With logs, bundles, files that were withdrawn or retyped, and those of attempts that are not the"
            " result of their job.",
        ),
    ] = False,
    warned: Annotated[
        bool, typer.Option("--warned", help="Of which a check of their type warns, with the words.")
    ] = False,
    refused: Annotated[
        bool, typer.Option("--refused", help="Files that were not taken in instead, the last first, with the reasons.")
    ] = False,
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
) -> None:
    """List files by type, dimensions and metadata.

    In the order of their registration.
    """
    from nightmill.cli.opening import open_without_types
    from nightmill.errors import RequestRefused, UnknownName
    from nightmill.model.dimensions import DIMENSIONS, NAME
    from nightmill.operations.find import find

    with open_without_types(site) as opened:
        if refused:
            if overlaps or warned or level is not None:
                raise RequestRefused(
                    "--overlaps, --warned and --level are for files that were taken in",
                    remedy="leave them away with --refused",
                )
            _find_refused(opened, type_ or [], where, origin or [], limit, as_json)
            return
        known = opened.config.keys.keys() - {*DIMENSIONS, NAME}
        for name in key or ():
            if name not in known:
                raise UnknownName("key of metadata", name, sorted(known))
        found = find(
            opened,
            types=type_ or (),
            where=where,
            overlaps=overlaps,
            origins=origin or (),
            level=level,
            warned=warned,
            limit=limit,
            everything=everything,
        )
    _print_files(found, key or (), warned=warned, everything=everything, as_json=as_json)


def _print_files(
    found: Sequence[CataloguedFile], keys: Sequence[str], *, warned: bool, everything: bool, as_json: bool
) -> None:
    from nightmill.backbone.catalogue.files import data_id
    from nightmill.cli.render.files import file_of
    from nightmill.cli.render.output import print_json, print_table

    if as_json:
        print_json([file_of(each) for each in found])
        return
    columns = ["name", "type", "origin", "data ID", *keys, "begins at", "bytes", "store"]
    columns += ["withdrawn at"] if everything else []
    columns += ["warnings"] if warned else []
    print_table(
        columns,
        (
            (
                each.row.name,
                each.row.type,
                each.row.origin,
                data_id(each.row),
                *(each.row.attributes.get(key) for key in keys),
                each.row.begins_at,
                each.row.size_bytes,
                ", ".join(copy.store for copy in each.copies),
                *([each.withdrawn_at] if everything else []),
                *(["; ".join([f"{told.check}: {told.message}" for told in each.warnings])] if warned else []),
            )
            for each in found
        ),
    )


def _find_refused(
    site: Site, types: Sequence[str], where: str, origins: Sequence[Origin], limit: int | None, as_json: bool
) -> None:
    from nightmill.backbone.catalogue.refusals import refusals
    from nightmill.cli.documents import told
    from nightmill.cli.documents.files import Offer
    from nightmill.cli.render.output import print_json, print_table
    from nightmill.errors import RequestRefused

    if where:
        raise RequestRefused("--where is for files that were taken in", remedy="leave it away with --refused")
    with site.database.reading() as session:
        rows = refusals(session, types=types, origins=origins, limit=limit)
    if as_json:
        print_json([told(Offer, row) for row in rows])
        return
    print_table(
        ("path", "type", "origin", "reason", "message", "at", "who"),
        ((row.path, row.type, row.origin, row.reason, row.message, row.at, row.who) for row in rows),
    )
