"""Parquet files: the key-value metadata of the schema, and the rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from io import BufferedReader, FileIO
from itertools import repeat
from typing import Any, Final

from nightmill.errors import BadFile, FileRefused
from nightmill.files.formats import require
from nightmill.files.formats.compressed import remedy_for
from nightmill.files.formats.tables import BLOCK, column_names, no_rows, plain_value
from nightmill.files.reading import StrPath, decoded, opened
from nightmill.model.attachment import RowValue
from nightmill.model.content import Content, Digest, SectionValue

_MAGIC: Final = b"PAR1"
_CHUNK_BYTES: Final = 1 << 20
_MAX_FOOTER_STRINGS: Final = 16 << 20
_MAX_FOOTER_LISTS: Final = 1_000_000


class Parquet:
    """The format ``parquet``: keywords are keys of the schema's metadata."""

    keyword: Final = re.compile(r"[^\x00-\x1f\x7f]+")

    def __init__(self) -> None:
        require("pyarrow", "parquet")

    def read(
        self, path: StrPath, *, descriptor: int | None = None, digest: Digest | None = None, verify: bool = False
    ) -> Content:
        """Read what stands behind the rows, as :class:`nightmill.model.ports.Format` says.

        Raises
        ------
        BadFile
            With one of these reasons: ``missing``, ``unreadable``, ``empty``, ``not_of_format``, ``truncated``.
        """
        with opened(path, descriptor) as (file, size_bytes):
            if size_bytes == 0:
                raise BadFile(f"{path} is empty", reason="empty")
            while digest is not None and (data := file.read(_CHUNK_BYTES)):
                digest.update(data)
            _refuse_ends(path, file)
            with _parquet(path, file) as found:
                given = found.metadata.metadata or {}
        return Content((Pairs({decoded(key): decoded(value) for key, value in given.items()}),), size_bytes, "")

    def rows(
        self, name: StrPath, path: str, table: int | str, columns: Sequence[str]
    ) -> Iterator[tuple[RowValue, ...]]:
        """Yield rows, as :meth:`nightmill.model.ports.TableFormat.rows` says."""
        if table != 1:
            raise no_rows(name, f"it has one table, which is 1, and not {table!r}")
        with opened(path) as (file, _), _parquet(name, file) as found:
            names = column_names(name, "the table", found.schema_arrow.names, columns)
            wanted, row = list(dict.fromkeys(names)), 0
            if not wanted:
                yield from repeat((), found.metadata.num_rows)
                return
            try:
                for batch in found.iter_batches(BLOCK, columns=wanted, use_threads=False):
                    values = {each: batch.column(each).to_pylist() for each in wanted}
                    for number in range(batch.num_rows):
                        row += 1
                        yield tuple([plain_value(name, each, row, values[each][number]) for each in names])
            except FileRefused:
                raise
            except Exception as error:
                raise no_rows(name, f"its rows cannot be read after row {row:,}: {_first_line(error)}") from error


class Pairs:
    """The one section of a Parquet file."""

    number: Final = 0
    name: Final = ""

    def __init__(self, values: dict[str, str]) -> None:
        self.values = values

    def get(self, keyword: str) -> SectionValue | None:
        """Return the text under a key."""
        return self.values.get(keyword)

    def items(self) -> Iterator[tuple[str, SectionValue]]:
        """Yield every key that has a text, in order, with that."""
        yield from ((key, value) for key, value in self.values.items() if Parquet.keyword.fullmatch(key))


def _refuse_ends(path: StrPath, file: BufferedReader[FileIO]) -> None:
    """Refuse a file that does not begin and end as all of them do."""
    file.seek(0)
    begin = file.read(8)
    if not begin.startswith(_MAGIC):
        raise BadFile(
            f"{path} is not Parquet: it begins with {begin!r}", reason="not_of_format", remedy=remedy_for(begin)
        )
    file.seek(-4, 2)
    if file.read(4) != _MAGIC:
        raise BadFile(
            f"{path} is cut off: it does not end with {_MAGIC.decode()}",
            reason="truncated",
            remedy="transfer it again",
        )
    file.seek(0)


def _parquet(path: StrPath, file: BufferedReader[FileIO]) -> Any:
    from pyarrow import parquet  # half a second, for who has such files alone

    try:
        return parquet.ParquetFile(
            file,
            page_checksum_verification=True,  # of the pages that have one
            thrift_string_size_limit=_MAX_FOOTER_STRINGS,
            thrift_container_size_limit=_MAX_FOOTER_LISTS,
        )
    except Exception as error:
        raise BadFile(f"{path} is not Parquet: {_first_line(error)}", reason="not_of_format") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
