"""Tilings: which files touch which tile, worked out from their footprints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Final

from sqlalchemy.orm import Session

from nightmill.model.base import canonical_json
from nightmill.model.footprint import Tiling, TilingMargin
from nightmill.model.found_file import FoundFile
from nightmill.planning.problems import Problems

TILE: Final = "tile"
"""The key that a tiling gives to what touches a tile."""


def words(wanted: TilingMargin, tiling: Tiling) -> str:
    """Return what a rule says of a tiling: its name, the margin, and a digest of what it was."""
    digest = sha256(canonical_json(tiling.model_dump(mode="json")).encode()).hexdigest()[:8]
    margin = f", {wanted.margin_arcsec:g} arcsec around" if wanted.margin_arcsec else ""
    return f"tiling {wanted.tiling} ({digest}{margin})"


def tile_rows(
    session: Session, tiling: Tiling, wanted: TilingMargin, files: Sequence[FoundFile], topic: str, problems: Problems
) -> Iterator[tuple[str, FoundFile]]:
    """Yield each tile with each file that touches it; report files without a footprint.

    Parameters
    ----------
    tiling
        The tiling.
    wanted
        How near is near enough.
    files
        Which files.
    topic
        What problems are about.
    """
    from nightmill.backbone.catalogue.footprints import footprints_among
    from nightmill.files.tiles import regions_of, tiles_of

    by_id = {file.id: file for file in files}
    found = list(footprints_among(session, by_id))
    for id_ in by_id.keys() - {id_ for id_, _footprint in found}:
        reason = "a file has no footprint, so that no tile can be told: its type had none when it was taken in"
        problems.add(topic, reason, by_id[id_].name, noun="file")
    if not found:
        return
    names, tiles = tiles_of(tiling)
    for own, other in regions_of([each for _id, each in found]).touching(tiles, wanted.margin_arcsec):
        for place, tile in zip(own.tolist(), other.tolist(), strict=True):
            yield names[tile], by_id[found[place][0]]
