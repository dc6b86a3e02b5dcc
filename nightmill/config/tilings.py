"""Tilings of a site: how it cuts the sky, as its nightmill.yaml and the tables that this names say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nightmill.config.build import build
from nightmill.config.document import Document, Key, dotted, kind_of
from nightmill.config.rules import check_fit
from nightmill.errors import ConfigError, ConfigErrors
from nightmill.model.footprint import Tiling


def tilings_of(
    bodies: Mapping[str, Any], folder: Path, document: Document, errors: list[ConfigError]
) -> dict[str, Tiling]:
    """Return the tilings of a site by their names; add everything that is wrong with them to errors.

    Parameters
    ----------
    bodies
        As the document has them.
    folder
        Of the site, from which the paths of tables lead.
    """
    if not bodies:
        return {}
    from nightmill.files.tiles import check_tiling, read_polygons  # numpy, for who has tilings

    found = {}
    for name, body in bodies.items():
        key: Key = ("tilings", name)
        where = document.where(key)
        errors += [ConfigError(text, where=where) for text in check_fit("tiling name", name)]
        if not isinstance(body, dict):
            what = f"{dotted(key)} is a {kind_of(body)} and should be a mapping"
            errors.append(ConfigError(what, where=where))
            continue
        table = body.get("polygons")
        try:
            read = {"polygons": read_polygons(folder / table)} if isinstance(table, str) else {}
            tiling = build(Tiling, {**body, **read}, document.where, written=body, prefix=key)
        except (ConfigErrors, ConfigError) as error:
            errors += error.errors if isinstance(error, ConfigErrors) else [error]
            continue
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            own = (*key, "polygons")
            errors.append(ConfigError(f"{dotted(own)}: {table}: {why}", where=document.where(own)))
            continue
        errors += [ConfigError(f"{dotted(key)}: {text}", where=where) for text in check_tiling(tiling)]
        found[name] = tiling
    return found
