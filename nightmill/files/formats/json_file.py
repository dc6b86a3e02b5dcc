"""JSON documents."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from nightmill.errors import BadFile
from nightmill.files.formats.compressed import remedy_for, unpacked
from nightmill.files.formats.tree import KEYWORD, MAX_TREE_BYTES, Tree
from nightmill.files.reading import StrPath
from nightmill.model.attachment import RowValue
from nightmill.model.base import unique_keys
from nightmill.model.content import Content, Digest


class Json:
    """The format ``json``: keywords are dotted paths, and lists of mappings are tables."""

    keyword: Final = KEYWORD

    def read(
        self, path: StrPath, *, descriptor: int | None = None, digest: Digest | None = None, verify: bool = False
    ) -> Content:
        """Read a JSON document, as :class:`nightmill.model.ports.Format` says.

        Raises
        ------
        BadFile
            With one of these reasons: ``missing``, ``unreadable``, ``empty``, ``not_of_format``, ``over_limit``,
            ``truncated`` or ``bad_compression`` inside of gzip or bzip2.
        """
        with unpacked(path, descriptor, digest) as file:
            data = file.whole(MAX_TREE_BYTES, "a JSON file")
        return Content((Tree(_parsed(path, data)),), file.size_bytes, file.compression)

    def rows(
        self, name: StrPath, path: str, table: int | str, columns: Sequence[str]
    ) -> Iterator[tuple[RowValue, ...]]:
        """Yield rows of a list of mappings, as :meth:`nightmill.model.ports.TableFormat.rows` says.

        The table is the dotted path to the list, or 1 for a document that is one.
        """
        with unpacked(path, None, None) as file:
            data = file.whole(MAX_TREE_BYTES, "a JSON file")
        return Tree(_parsed(name, data)).rows(name, table, columns)


def _parsed(name: StrPath, data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=unique_keys)
    except UnicodeDecodeError as error:
        why = f"it is not UTF-8 (byte {error.start:,})"
    except ValueError as error:  # also of a number with thousands of digits
        why = str(error)
    except RecursionError:
        why = "it is nested too deeply"
    raise BadFile(f"{name} is not JSON: {why}", reason="not_of_format", remedy=remedy_for(data))
