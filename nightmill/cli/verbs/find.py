"""``nightmill find``: files by what they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nightmill.cli.completing import file_types
from nightmill.cli.shape import SiteFolder
from nightmill.model.origin import Origin

if TYPE_CHECKING:
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
        str,
        typer.Option(metavar="PLACE", help="Whose footprint touches RA,DEC[,RADIUS] in degrees, or TILING:TILE."),
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
    from nightmill.errors import RequestRefused

    with open_without_types(site) as opened:
        if refused:
            if overlaps or warned or level is not None:
                raise RequestRefused(
                    "--overlaps, --warned and --level are for files that were taken in",
                    remedy="leave them away with --refused",
                )
            _find_refused(opened, type_ or [], where, origin or [], limit, as_json)
        else:
            _find_files(
                opened, type_ or [], where, overlaps, origin or [], level, warned, limit, everything, key or [], as_json
            )


def _find_files(
    site: Site,
    types: Sequence[str],
    where: str,
    overlaps: str,
    origins: Sequence[Origin],
    level: int | None,
    warned: bool,
    limit: int | None,
    everything: bool,
    keys: Sequence[str],
    as_json: bool,
) -> None:
    from nightmill.backbone.catalogue.files import data_id
    from nightmill.cli.render.files import file_of
    from nightmill.cli.render.output import print_json, print_table
    from nightmill.errors import UnknownName
    from nightmill.model.dimensions import DIMENSIONS, NAME
    from nightmill.operations.find import find

    known = site.config.keys.keys() - {*DIMENSIONS, NAME}
    for name in keys:
        if name not in known:
            raise UnknownName("key of metadata", name, sorted(known))
    found = find(
        site,
        types=types,
        where=where,
        overlaps=overlaps,
        origins=origins,
        level=level,
        warned=warned,
        limit=limit,
        everything=everything,
    )
    if as_json:
        print_json([file_of(each) for each in found])
        return
    print_table(
        (
            "name",
            "type",
            "origin",
            "data ID",
            *keys,
            "begins at",
            "bytes",
            "store",
            *(["withdrawn at"] if everything else []),
            *(["warnings"] if warned else []),
        ),
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
