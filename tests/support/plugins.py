"""Packages outside of the tree that offer plug-ins."""

from __future__ import annotations

from pathlib import Path


def write_package(
    folder: Path, name: str, code: str, *, group: str, offers: dict[str, str], version: str = "1.0"
) -> None:
    """Write a package of one module into a folder, as an installer leaves it.

    Parameters
    ----------
    name
        Of the package and of its module.
    offers
        Names of its entry points to what they name in the module.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(code)
    about = folder / f"{name}-{version}.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"{each} = {name}:{what}" for each, what in offers.items()]
    (about / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
