"""Files as programs read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nightmill.backbone.catalogue.files import data_id
from nightmill.backbone.catalogue.replicas import Replica
from nightmill.backbone.schema import FileRow


def as_plain(row: FileRow, copies: Sequence[Replica]) -> dict[str, Any]:
    """Write a file with its copies as plain values."""
    names = ("name", "type", "origin", "size_bytes", "sha256")
    return {
        **{name: getattr(row, name) for name in names},
        "data_id": data_id(row),
        "begins_at": row.begins_at,
        "ends_at": row.ends_at,
        "metadata": row.attributes,
        "original_name": row.original_name,
        "provenance": row.provenance,
        "registered_at": row.registered_at,
        "registered_by": row.registered_by,
        "copies": [{"store": copy.store, "path": copy.path, "state": copy.state} for copy in copies],
    }
