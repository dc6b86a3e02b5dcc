"""Finding files in the catalogue, and telling why one of them is here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nightmill.backbone.catalogue import files as catalogue
from nightmill.backbone.catalogue.calibrations import history
from nightmill.backbone.catalogue.refusals import refusals
from nightmill.backbone.catalogue.replicas import Replica, replicas
from nightmill.backbone.schema import CalibrationRow, FileRow, RefusalRow
from nightmill.config.rules import LOG
from nightmill.errors import UnknownName
from nightmill.expressions import parse
from nightmill.model.bundle import FILE_TYPE
from nightmill.model.origin import Origin
from nightmill.operations.site import Site
from provenance.history import Maker, maker_of


@dataclass(frozen=True)
class CataloguedFile:
    """A file of the catalogue with its copies."""

    row: FileRow
    copies: Sequence[Replica]


@dataclass(frozen=True)
class Story:
    """Why a file is here, or why it is not.

    Parameters
    ----------
    file
        None where no file of this name was taken in.
    maker
        What made it, where a step did.
    roles
        Every role as a calibration that it was ever given, the first one first.
    refused
        When it was not taken in, and why.
    """

    file: CataloguedFile | None
    maker: Maker | None
    roles: Sequence[CalibrationRow]
    refused: Sequence[RefusalRow]


def find(
    site: Site,
    *,
    types: Sequence[str] = (),
    where: str = "",
    origins: Sequence[Origin] = (),
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
    everything
        With the files that no plan would take.

    Raises
    ------
    UnknownName
        Where the site has no such file type.
    ExpressionError
        Where the expression is wrong.
    """
    known = site.config.file_types
    for name in types:
        if name not in (*known, LOG, FILE_TYPE) and not site.config.wrong_types:
            raise UnknownName("file type", name, sorted(known))
    expression = parse(where, metadata_keys=site.config.keys) if where else None
    with site.database.reading() as session:
        found = catalogue.find(session, types=types, where=expression, origins=origins, limit=limit, all=everything)
        rows = list(found)
        copies = replicas(session, [row.id for row in rows])
    return [CataloguedFile(row, copies.get(row.id, [])) for row in rows]


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
            return Story(None, None, [], refused)
        row = catalogue.files_named(session, [meant or name])[meant or name]
        copies = replicas(session, [row.id]).get(row.id, [])
        return Story(CataloguedFile(row, copies), maker_of(session, row.id), history(session, row.id), refused)
