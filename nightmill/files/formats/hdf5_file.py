"""HDF5 files: attributes and single values by their paths, and tables.

The library of HDF5 crashes on some damaged files, and with it the process that it is in: it works apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any, Final

from nightmill.errors import BadFile, FileRefused
from nightmill.files.formats import require
from nightmill.files.formats.apart import apart
from nightmill.files.formats.compressed import remedy_for
from nightmill.files.formats.tables import BLOCK, array_rows, column_names, no_rows
from nightmill.files.reading import StrPath, decoded, opened
from nightmill.model.attachment import RowValue
from nightmill.model.content import Content, Digest, SectionValue

MAX_OBJECTS: Final = 50_000
"""Groups, datasets and attributes of a file."""
MAX_VALUE_BYTES: Final = 65_536
"""Of an attribute or a dataset of one value."""
MAX_CHUNK_BYTES: Final = 256 << 20
"""Of a part of a dataset that is decompressed at once."""

_MAGIC: Final = b"\x89HDF\r\n\x1a\n"
_CHUNK_BYTES: Final = 1 << 20
_KINDS: Final = "biufSUO"
"""Of numpy: truth values, numbers, texts."""


class Hdf5:
    """The format ``hdf5``: keywords are ``group/dataset``, for one value, and ``group/dataset@attribute``."""

    keyword: Final = re.compile(r"[^\x00-\x1f\x7f]+")

    def __init__(self) -> None:
        require("h5py", "hdf5")

    def read(
        self, path: StrPath, *, descriptor: int | None = None, digest: Digest | None = None, verify: bool = False
    ) -> Content:
        """Read attributes and single values, as :class:`nightmill.model.ports.Format` says.

        Links to other files, and datasets whose bytes lie in others, are left alone.

        Raises
        ------
        BadFile
            With one of these reasons: ``missing``, ``unreadable``, ``empty``, ``not_of_format``, ``truncated``,
            ``over_limit``.
        """
        with opened(path, descriptor) as (file, size_bytes):
            if size_bytes == 0:
                raise BadFile(f"{path} is empty", reason="empty")
            begin = file.peek(8)[:8]
            while digest is not None and (data := file.read(_CHUNK_BYTES)):
                digest.update(data)
            if not begin.startswith(_MAGIC):
                raise BadFile(
                    f"{path} is not HDF5: it begins with {begin!r}", reason="not_of_format", remedy=remedy_for(begin)
                )
            values = dict(apart(path, values_of, file.fileno()))
        return Content((Values(values),), size_bytes, "")

    def rows(
        self, name: StrPath, path: str, table: int | str, columns: Sequence[str]
    ) -> Iterator[tuple[RowValue, ...]]:
        """Yield rows of a dataset of compounds, or of the datasets of a group, each a column.

        As :meth:`nightmill.model.ports.TableFormat.rows` says; the table is its path.
        """
        with opened(path) as (file, _):
            for block in apart(name, blocks_of, file.fileno(), table, list(columns)):
                yield from map(tuple, block)


def values_of(name: StrPath, path: str) -> Iterator[tuple[str, SectionValue]]:
    """Yield the path of every attribute and dataset of a file that has one plain value, with that.

    Raises
    ------
    BadFile
        As :meth:`Hdf5.read`.
    """
    with _opened(name, path) as root:
        yield from _Walk(name).values(root)


def blocks_of(
    name: StrPath, path: str, table: int | str, columns: Sequence[str]
) -> Iterator[list[tuple[RowValue, ...]]]:
    """Yield the rows of a table, many at a time.

    Raises
    ------
    BadFile
        As :meth:`Hdf5.rows`.
    """
    with _opened(name, path) as root:
        node = _at(name, root, table)
        where = f"table {table!r}"
        if hasattr(node, "keys"):
            there = [key for key in node if _is_dataset(node, key)]
            names = column_names(name, where, there, columns)
            sources = [node[each] for each in names or there]
        else:
            names = column_names(name, where, node.dtype.names or (), columns)
            sources = [node]
        _refuse_shapes(name, where, sources)
        if not names:
            for start in range(0, len(sources[0]), BLOCK):
                yield [()] * min(BLOCK, len(sources[0]) - start)
            return
        for start in range(0, max(len(sources[0]), 1), BLOCK):
            blocks = [each[start : start + BLOCK] for each in sources]
            arrays = blocks if hasattr(node, "keys") else [blocks[0][each] for each in names]
            yield list(array_rows(name, where, names, arrays, after=start))


class Values:
    """The one section of an HDF5 file."""

    number: Final = 0
    name: Final = ""

    def __init__(self, values: dict[str, SectionValue]) -> None:
        self.values = values

    def get(self, keyword: str) -> SectionValue | None:
        """Return the value of a path, which may begin with a slash or not."""
        return self.values.get(keyword.removeprefix("/"))

    def items(self) -> Iterator[tuple[str, SectionValue]]:
        """Yield every path that has a value, with that."""
        for path, value in self.values.items():
            if Hdf5.keyword.fullmatch(path) and not path.startswith("/"):
                yield path, value


class _Walk:
    """A way through the groups of a file, each once."""

    def __init__(self, path: StrPath) -> None:
        self.path = path
        self.seen: set[int] = set()
        self.objects = 0

    def values(self, root: Any) -> Iterator[tuple[str, SectionValue]]:
        """Yield the path of every attribute and dataset that has one plain value, with that."""
        groups = [("", root)]
        while groups:
            path, group = groups.pop()
            if (address := _address(group)) in self.seen:
                continue
            self.seen.add(address)
            yield from self.attributes(path, group)
            for name in group:
                self.count()
                node = _hard(group, name)
                own = f"{path}/{name}" if path else name
                if hasattr(node, "keys"):
                    groups.append((own, node))
                elif hasattr(node, "chunks"):
                    yield from self.attributes(own, node)
                    if (value := _single(node)) is not None:
                        yield own, value

    def attributes(self, path: str, node: Any) -> Iterator[tuple[str, SectionValue]]:
        for name in node.attrs:
            self.count()
            held = node.attrs.get_id(name)
            plain = prod(held.shape) == 1 and held.get_storage_size() <= MAX_VALUE_BYTES and held.dtype.kind in _KINDS
            if plain and (value := _plain(node.attrs[name])) is not None:
                yield f"{path}@{name}", value

    def count(self) -> None:
        self.objects += 1
        if self.objects > MAX_OBJECTS:
            raise BadFile(
                f"{self.path} has more than {MAX_OBJECTS:,} groups, datasets and attributes, the most that are read",
                reason="over_limit",
            )


@contextmanager
def _opened(name: StrPath, path: str) -> Iterator[Any]:
    """Open a file; whatever goes wrong in it is said of it."""
    import h5py  # a quarter of a second, for who has such files alone

    try:
        with h5py.File(path, "r", locking=False) as root:
            yield root
    except (FileRefused, MemoryError):
        raise
    except Exception as error:
        why = str(error).partition("\n")[0]
        if "truncated file" in why:
            raise BadFile(f"{name} is cut off: {why}", reason="truncated", remedy="transfer it again") from error
        raise BadFile(f"{name} is damaged: {why}", reason="not_of_format") from error


def _at(name: StrPath, root: Any, table: int | str) -> Any:
    """Return the group or dataset that a table is, over no link to elsewhere."""
    if isinstance(table, int):
        raise no_rows(name, f"a table of an HDF5 file is named by its path, as table: catalogue/sources, not {table}")
    node = root
    for part in filter(None, table.split("/")):
        node = _hard(node, part) if hasattr(node, "keys") and part in node else None
        if node is None:
            raise no_rows(name, f"it has not got table {table!r}")
    if not hasattr(node, "keys") and not node.dtype.names:
        raise no_rows(name, f"{table!r} is neither a group nor a dataset of compounds, and has no columns")
    return node


def _hard(group: Any, name: str) -> Any:
    """Return what a group holds by a name; None for a link to elsewhere, or what is not a group or dataset."""
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        return None
    node = group[name]
    if isinstance(node, h5py.Dataset):
        return None if node.external or node.is_virtual else node
    return node if isinstance(node, h5py.Group) else None


def _is_dataset(group: Any, name: str) -> bool:
    return hasattr(_hard(group, name), "chunks")


def _refuse_shapes(name: StrPath, where: str, sources: Sequence[Any]) -> None:
    """Refuse columns of several lengths, and chunks that nobody could hold in memory."""
    shapes = {each.shape for each in sources}
    if len(shapes) != 1 or len(next(iter(shapes)) or ()) != 1:
        raise no_rows(name, f"the columns of {where} have the shapes {', '.join(map(str, shapes))}, not one length")
    for each in sources:
        if each.chunks and prod(each.chunks) * each.dtype.itemsize > MAX_CHUNK_BYTES:
            raise BadFile(
                f"{name}: {where} has chunks of more than {MAX_CHUNK_BYTES:,} bytes, the most that are read",
                reason="over_limit",
            )


def _address(group: Any) -> int:
    import h5py

    return int(h5py.h5o.get_info(group.id).addr)


def _single(dataset: Any) -> SectionValue | None:
    """Return the value of a dataset that has one."""
    if dataset.shape is None or prod(dataset.shape) != 1 or dataset.dtype.kind not in _KINDS:
        return None
    if max(dataset.dtype.itemsize, prod(dataset.chunks or (0,)) * dataset.dtype.itemsize) > MAX_VALUE_BYTES:
        return None
    return _plain(dataset[()])


def _plain(value: Any) -> SectionValue | None:
    """Return the plain value of one of numpy; None where it is not one."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bytes):
        return decoded(value)
    return value if isinstance(value, str | int | float) else None
