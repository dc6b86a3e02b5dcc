"""Bundles: a pipeline's folder as it was at submit, in one archive that its digest names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from pydantic import Field

from nightmill.model.base import Frozen
from nightmill.model.order import OrderBundle

FILE_TYPE: Final = "bundle"
"""Type of the archives in the catalogue."""
FOLDER: Final = "bundles"
"""Folder of the archives in a store."""


class BundleFile(Frozen):
    """One file of a bundle."""

    path: str
    """Below the pipeline's folder, with ``/`` between its parts."""
    size_bytes: int
    sha256: str
    executable: bool = False


class SealedBundle(OrderBundle):
    """A bundle as plans keep it: with the texts of its templates, of which orders are rendered."""

    templates: Mapping[str, str] = Field(default_factory=dict)
    """By their paths in the bundle, those that the pipeline names."""

    @property
    def order(self) -> OrderBundle:
        """What an order says of it."""
        return OrderBundle(digest=self.digest, size_bytes=self.size_bytes, store=self.store, path=self.path)


class Bundle(Frozen):
    """A pipeline's folder: what is in it, and where its archive lies."""

    digest: str
    """SHA-256 of the archive, as hexadecimal digits."""
    size_bytes: int
    """Of the archive."""
    store: str
    path: str
    """Below the store's URL."""
    files: tuple[BundleFile, ...]
    """In the order of their paths."""
    commit: str = ""
    """Git commit that was checked out; empty where the folder is not in a repository, or git is not installed."""
    dirty: bool = False
    """Whether a file differs from that commit, or is not in it."""

    templates: Mapping[str, str] = Field(default_factory=dict)
    """The texts of those of its files that the pipeline names as templates, by their paths."""

    @property
    def sealed(self) -> SealedBundle:
        """What a plan says of it."""
        return SealedBundle(
            digest=self.digest, size_bytes=self.size_bytes, store=self.store, path=self.path, templates=self.templates
        )


class BundleChanges(Frozen):
    """How one bundle differs from another: paths of files."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def compare(before: Iterable[BundleFile], after: Iterable[BundleFile]) -> BundleChanges:
    """Say which files were added, changed (bytes, or whether they are executable) and removed, by their paths."""
    old, new = ({file.path: file for file in files} for files in (before, after))
    return BundleChanges(
        added=tuple(sorted(new.keys() - old.keys())),
        changed=tuple(sorted(path for path in new.keys() & old.keys() if new[path] != old[path])),
        removed=tuple(sorted(old.keys() - new.keys())),
    )


def bundle_name(digest: str) -> str:
    """Return the name of an archive in the catalogue."""
    return f"bundle_{digest[:16]}.tar"


def bundle_path(digest: str) -> str:
    """Return where an archive lies, below the URL of its store."""
    return f"{FOLDER}/{digest}.tar"
