"""Files as programs read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nightmill.backbone.catalogue.files import data_id
from nightmill.backbone.catalogue.replicas import Replica
from nightmill.backbone.schema import FileRow
from nightmill.cli.documents import told
from nightmill.cli.documents.files import Copy, File, ShownFile


def file_of(row: FileRow, copies: Sequence[Replica]) -> File:
    """Tell of a file with its copies."""
    return told(File, row, **_own(row, copies))


def shown_file(
    row: FileRow, copies: Sequence[Replica], *, made_by: str | None, calibrations: Mapping[str, str]
) -> ShownFile:
    """Tell of a file with its copies, what made it, and its maturity in each set of calibrations."""
    return told(ShownFile, row, **_own(row, copies), made_by=made_by, calibrations=calibrations)


def _own(row: FileRow, copies: Sequence[Replica]) -> dict[str, Any]:
    return {
        "data_id": data_id(row),
        "metadata": row.attributes,
        "copies": [told(Copy, copy) for copy in copies],
    }
