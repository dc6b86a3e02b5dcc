"""YAML documents, and the YAML at the beginning of ASDF files."""

from __future__ import annotations

from typing import Final

from nightmill.errors import BadFile
from nightmill.files.formats.compressed import remedy_for, unpacked
from nightmill.files.formats.tree import KEYWORD, MAX_TREE_BYTES, Tree
from nightmill.files.reading import StrPath
from nightmill.files.yaml_data import read_yaml
from nightmill.model.content import Content, Digest


class Yaml:
    """The format ``yaml``: keywords are dotted paths."""

    keyword: Final = KEYWORD

    def read(
        self, path: StrPath, *, descriptor: int | None = None, digest: Digest | None = None, verify: bool = False
    ) -> Content:
        """Read a YAML document, as :class:`nightmill.model.ports.Format` says; its tags are not obeyed.

        Raises
        ------
        BadFile
            With one of these reasons: ``missing``, ``unreadable``, ``empty``, ``not_of_format``, ``over_limit``,
            ``truncated`` or ``bad_compression`` inside of gzip or bzip2.
        """
        with unpacked(path, descriptor, digest) as file:
            data = file.whole(MAX_TREE_BYTES, "a YAML file")
        return Content((yaml_tree(path, data, "YAML"),), file.size_bytes, file.compression)


def yaml_tree(path: StrPath, data: bytes, format: str) -> Tree:
    """Return the section that YAML makes.

    Raises
    ------
    BadFile
        Where it is not YAML (``not_of_format``).
    """
    try:
        return Tree(read_yaml(data.decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        why = f"it is not UTF-8 (byte {error.start:,})"
    except ValueError as error:
        why = str(error)
    raise BadFile(f"{path} is not {format}: {why}", reason="not_of_format", remedy=remedy_for(data))
