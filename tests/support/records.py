"""The record of a site in a normal form: what two sites give that did the same, wherever they did it.

Numbers of rows tell in which order these were written, so each row is told by what is unique of it, and tells others by
that. What says where and when something was done, and what it cost, is left out; all other columns of all tables count.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from sqlalchemy import Column, Table, UniqueConstraint, select
from sqlalchemy.orm import Session

from nightmill.backbone.schema import Base
from nightmill.operations.site import Site

VARIES: Final[Mapping[str, frozenset[str]]] = {
    "attempt": frozenset({"lease_id", "host", "issued_at", "began_at", "ended_at", "order_sha256"}),
    "audit": frozenset({"at"}),
    "calibration": frozenset({"at"}),
    "campaign": frozenset({"submitted_at", "sha256", "flow_run_id"}),
    "execution": frozenset(
        {"host", "began_at", "ended_at", "wall_seconds", "user_seconds", "system_seconds", "max_rss_bytes"}
        | {"read_bytes", "written_bytes"}
    ),
    "file": frozenset({"registered_at"}),
    "plan": frozenset({"sha256", "sealed_at"}),
    "replica": frozenset({"verified_at"}),
    "site": frozenset({"key", "first_seen"}),
    "slice": frozenset({"flow_run_id"}),
    "store": frozenset({"url", "kind"}),
}
"""Columns that say where and when. Digests are of what names the site's engines and its stores' URLs."""
UNTOLD: Final = frozenset({"lease", "chain", "signing_key", "statement"})
"""Tables of who was at work, and of what is signed of all that varies."""
PLACES: Final = frozenset({"stores", "execution", "pipeline_dir", "warm"})
"""Keys of plans and campaigns that say where, or in which process."""
HOSTS: Final = frozenset({"PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CUDA_VISIBLE_DEVICES"})
"""Variables that steps have from where they run."""
_CHECKSUMS: Final = re.compile(rb"(CHECKSUM|DATASUM )= .{70}", re.DOTALL)
"""Cards of FITS headers that tell when they were written."""

Record = Mapping[str, list[str]]
"""A line a row, sorted, by the name of the table."""


def record_of(site: Site) -> Record:
    """Return all that is on record at a site; each file that a store has is read, and must be what the record says."""
    with site.database.reading() as session:
        content, names = _content(site, session), _Names(session)
        record = {}
        for table in Base.metadata.sorted_tables:
            if table.name not in UNTOLD:
                rows = [names.told(table, row) | _replaced(table, row, content) for row in names.rows(table)]
                lines = [json.dumps(row, sort_keys=True, default=str) for row in rows]
                record[table.name] = sorted(line.replace(str(site.config.directory), "SITE") for line in lines)
    return record


def differences(one: Record, other: Record) -> list[str]:
    """Return the rows that only one of two records has."""
    found = []
    for table in one:
        for mark, rows, others in (("-", one[table], other[table]), ("+", other[table], one[table])):
            left = list(others)
            for row in rows:
                if row in left:
                    left.remove(row)
                else:
                    found.append(f"{mark} {table}: {row}")
    return found


def _content(site: Site, session: Session) -> Mapping[int, str]:
    """Return a digest of the content of each file that a store has."""
    files, replicas, stores = (Base.metadata.tables[name] for name in ("file", "replica", "store"))
    query = select(files.c.id, files.c.sha256, replicas.c.path, stores.c.name).join_from(files, replicas).join(stores)
    content = {}
    with TemporaryDirectory() as folder:
        for number, digest, path, store in session.execute(query):
            target = Path(folder) / str(number)
            site.stagers[store].fetch(path, target)
            data = target.read_bytes()
            assert sha256(data).hexdigest() == digest, f"{path} in {store} is not what is on record"
            content[number] = sha256(_CHECKSUMS.sub(b"", data)).hexdigest()
    return content


def _replaced(table: Table, row: Mapping[str, Any], content: Mapping[int, str]) -> dict[str, Any]:
    """Return what stands for values of a row that have something in them that varies."""
    match table.name:
        case "file" if row["type"] == "log":  # it tells of times
            return {"sha256": "", "size_bytes": 0}
        case "file":
            return {"sha256": content.get(row["id"], "")}
        case "execution":
            return {"environment": _without(row["environment"], HOSTS)}
        case "job":  # by numbers of files, which planned_input tells by name
            return {"detail": _without(row["detail"], {"inputs"})}
        case "plan":
            return {"common": _without(row["common"], PLACES)}
        case "campaign":
            return {"definition": _without(row["definition"], PLACES)}
        case _:
            return {}


def _without(value: Any, keys: frozenset[str] | set[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(each, keys) for key, each in value.items() if key not in keys}
    return [_without(each, keys) for each in value] if isinstance(value, list) else value


def _varies(table: Table) -> frozenset[str]:
    return VARIES.get(table.name, frozenset())


class _Names:
    """Tells rows by what is unique of them."""

    def __init__(self, session: Session) -> None:
        tables = Base.metadata.sorted_tables
        self._rows = {table.name: [dict(row) for row in session.execute(select(table)).mappings()] for table in tables}
        self._by_id = {
            table.name: {row["id"]: row for row in self._rows[table.name]} for table in tables if "id" in table.c
        }
        self._name = cache(self._named)

    def rows(self, table: Table) -> list[dict[str, Any]]:
        return self._rows[table.name]

    def told(self, table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row without what varies, and with names in place of numbers."""
        varies = _varies(table) | {"id"}
        return {each.name: self._value(each, row[each.name]) for each in table.c if each.name not in varies}

    def _value(self, column: Column[Any], value: Any) -> Any:
        for key in column.foreign_keys:
            return None if value is None else self._name(key.column.table.name, value)
        return value

    def _named(self, name: str, number: int) -> Any:
        table = Base.metadata.tables[name]
        unique = [each.columns for each in table.constraints if isinstance(each, UniqueConstraint)]
        columns = next(each for each in unique if not _varies(table) & {*each.keys()})
        row = self._by_id[name][number]
        return tuple(self._value(column, row[column.name]) for column in columns)
