"""Packages of others, for tests: a module and the entry points that it offers, beside the tree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def package(folder: Path, name: str, code: str, offers: Mapping[str, Mapping[str, str]], version: str = "1.0") -> None:
    """Make an installed package.

    Parameters
    ----------
    folder
        Of those on the path of imports.
    name
        Of the package and of its one module.
    offers
        Group to name to object of the module, as ``{"nightmill.checks": {"round": "Round"}}``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(code)
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    points = "".join(
        f"[{group}]\n" + "".join(f"{offered} = {name}:{what}\n" for offered, what in own.items())
        for group, own in offers.items()
    )
    (info / "entry_points.txt").write_text(points)
