"""Files for the catalogue of a test."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from sqlalchemy.orm import Session

from nightmill.backbone.catalogue.registration import NewFile, register
from nightmill.backbone.catalogue.stores import store_ids
from nightmill.model.origin import Origin
from nightmill.model.store import Store

NOW = datetime(2026, 1, 11, 9, 30, tzinfo=UTC)
STORES = {"backbone": Store(name="backbone", url="stores/backbone")}


def new_file(name: str, **changes: Any) -> NewFile:
    """Make a raw science file that stands in the store ``backbone``."""
    values: dict[str, Any] = {
        "type": "raw_science",
        "origin": Origin.RAW,
        "size_bytes": 20_000,
        "sha256": sha256(name.encode()).hexdigest(),
        "store": "backbone",
        "path": f"raw/{name}",
    }
    return NewFile(name=name, **(values | changes))


def add_files(session: Session, files: Sequence[NewFile]) -> list[int]:
    """Register files, with their stores."""
    store_ids(session, STORES)
    return register(session, files, who="ada", now=NOW)
