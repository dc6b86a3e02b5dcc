"""Finding files in the catalogue, and telling why one of them is here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session

from nightmill.backbone.catalogue import files as catalogue
from nightmill.backbone.catalogue.calibrations import history
from nightmill.backbone.catalogue.file_warnings import warnings_of
from nightmill.backbone.catalogue.refusals import refusals
from nightmill.backbone.catalogue.replicas import Replica, replicas
from nightmill.backbone.catalogue.withdrawals import Withdrawal, versions, withdrawals
from nightmill.backbone.catalogue.withdrawals import history as withdrawals_of
from nightmill.backbone.schema import CalibrationRow, FileRow, RefusalRow
from nightmill.config.rules import OWN
from nightmill.errors import RequestRefused, UnknownName
from nightmill.expressions import parse
from nightmill.model.bundle import FILE_TYPE
from nightmill.model.file_warning import FileWarning
from nightmill.model.footprint import Footprint, Tiling
from nightmill.model.origin import Origin
from nightmill.operations.site import Site
from provenance.history import Maker, maker_of

TURN: Final = 360.0


@dataclass(frozen=True)
class CataloguedFile:
    """A file of the catalogue with its copies."""

    row: FileRow
    copies: Sequence[Replica]
    withdrawn_at: datetime | None = None
    """When it was withdrawn, or retyped, where it does not hold any more."""
    warnings: Sequence[FileWarning] = ()
    """What those checks of its type found that hold no file back."""


@dataclass(frozen=True)
class Story:
    """Why a file is here, or why it is not.

    Parameters
    ----------
    file
        None where no file of this name was taken in.
    maker
        What made it, where a step did.
    withdrawals
        When it was withdrawn or retyped, the first time first.
    roles
        Every role as a calibration that it was ever given, the first one first, whatever it was taken for then.
    refused
        When it was not taken in, and why.
    """

    file: CataloguedFile | None
    maker: Maker | None
    withdrawals: Sequence[Withdrawal]
    roles: Sequence[CalibrationRow]
    refused: Sequence[RefusalRow]


def find(
    site: Site,
    *,
    types: Sequence[str] = (),
    where: str = "",
    origins: Sequence[Origin] = (),
    level: int | None = None,
    overlaps: str = "",
    warned: bool = False,
    limit: int | None = None,
    everything: bool = False,
) -> list[CataloguedFile]:
    """Return files in the order of their registration.

    Parameters
    ----------
    types, origins
        Any of them; none given means every one.
    where
        An expression over dimensions and metadata.
    level
        Only products of jobs for which the worst lookup of their inputs had this level.
    overlaps
        A part of the sky that their footprints touch: ``RA,DEC`` or ``RA,DEC,RADIUS`` in degrees, or ``TILING:TILE``.
    warned
        Only those of which a check of their type warns.
    everything
        With the files that no plan would take.

    Raises
    ------
    UnknownName
        Where the site has no such file type, tiling or tile.
    ExpressionError
        Where the expression is wrong.
    RequestRefused
        Where the part of the sky is none.
    """
    known = site.config.file_types
    for name in types:
        if name not in (*known, *OWN, FILE_TYPE) and not site.config.wrong_types:
            raise UnknownName("file type", name, sorted(known))
    expression = parse(where, metadata_keys=site.config.keys) if where else None
    place = place_of(overlaps, site.config.tilings) if overlaps else None
    with site.database.reading() as session:
        found = catalogue.find(
            session,
            types=types,
            where=expression,
            origins=origins,
            ids=None if place is None else _touching(session, place),
            level=level,
            warned=warned,
            limit=limit,
            all=everything,
        )
        rows = list(found)
        copies = replicas(session, [row.id for row in rows])
        gone = withdrawals(session, [row.id for row in rows]) if everything else {}
        warnings = warnings_of(session, [row.id for row in rows])
    return [
        CataloguedFile(
            row, copies.get(row.id, []), gone[row.id][0].at if row.id in gone else None, warnings.get(row.id, ())
        )
        for row in rows
    ]


def place_of(text: str, tilings: Mapping[str, Tiling]) -> Footprint:
    """Read a part of the sky: ``RA,DEC`` or ``RA,DEC,RADIUS`` in degrees, or ``TILING:TILE``.

    Raises
    ------
    RequestRefused
        Where it is neither.
    UnknownName
        Where there is no such tiling or tile.
    """
    from nightmill.files.sphere import angles
    from nightmill.files.tiles import tiles_of

    name, colon, tile = text.partition(":")
    if colon:
        if name not in tilings:
            raise UnknownName("tiling", name, sorted(tilings))
        names, tiles = tiles_of(tilings[name])
        if tile not in names:
            raise UnknownName(f"tile of {name}", tile, names)
        number = names.index(tile)
        ra, dec = angles(tiles.vertices[number])
        vertices = tuple(dict.fromkeys(zip(ra.tolist(), dec.tolist(), strict=True)))
        return Footprint(vertices=vertices, radius_deg=math.degrees(tiles.radii[number]))
    try:
        numbers = [float(each) for each in text.split(",")]
        ra_deg, dec_deg, radius_deg = numbers if len(numbers) == 3 else (*numbers, 0.0)
        if not (abs(ra_deg) <= TURN and abs(dec_deg) <= TURN / 4 and 0 <= radius_deg <= TURN / 4):
            raise ValueError
    except ValueError:
        raise RequestRefused(
            f"{text!r} is not a part of the sky",
            remedy="write RA,DEC or RA,DEC,RADIUS in degrees, as 150.1,-2.2,0.5, or TILING:TILE",
        ) from None
    return Footprint(vertices=((ra_deg % TURN, dec_deg),), radius_deg=radius_deg)


def _touching(session: Session, place: Footprint) -> list[int]:
    from nightmill.backbone.catalogue.footprints import files_touching  # numpy, for who asks by place

    return files_touching(session, place)


def why(site: Site, name: str) -> Story:
    """Tell why a file is here, or why it is not.

    Parameters
    ----------
    name
        Of the file, or the one that it came with.

    Raises
    ------
    UnknownName
        Where no such file was taken in nor refused.
    """
    with site.database.reading() as session:
        refused = refusals(session, name=name)
        meant = catalogue.name_meant(session, name)
        if meant is None and refused:
            return Story(None, None, [], [], refused)
        row = catalogue.files_named(session, [meant or name])[meant or name]
        copies = replicas(session, [row.id]).get(row.id, [])
        gone = withdrawals(session, [row.id]).get(row.id)
        warnings = warnings_of(session, [row.id]).get(row.id, ())
        file = CataloguedFile(row, copies, gone[0].at if gone else None, warnings)
        told = withdrawals_of(session, row.name)
        roles = [role for id_ in versions(session, row.name) for role in history(session, id_)]
        return Story(file, maker_of(session, row.id), told, roles, refused)
