"""Files as programs read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nightmill.backbone.catalogue.files import data_id
from nightmill.cli.documents import told
from nightmill.cli.documents.files import File, ShownFile
from nightmill.cli.documents.junk import JunkMember
from nightmill.operations.find import CataloguedFile


def file_of(file: CataloguedFile) -> File:
    """Tell of a file with its copies."""
    return told(File, file.row, **_own(file))


def shown_file(
    file: CataloguedFile, *, made_by: str | None, calibrations: Mapping[str, str], junk: Sequence[Mapping[str, Any]]
) -> ShownFile:
    """Tell of a file with its copies, what made it, its maturity in each set of calibrations, and the junk in it."""
    members = [JunkMember(**each) for each in junk]
    return told(ShownFile, file.row, **_own(file), made_by=made_by, calibrations=calibrations, junk=members)


def _own(file: CataloguedFile) -> dict[str, Any]:
    return {
        "withdrawn_at": file.withdrawn_at,
        "data_id": data_id(file.row),
        "metadata": file.row.attributes,
        "copies": file.copies,
        "warnings": file.warnings,
    }
