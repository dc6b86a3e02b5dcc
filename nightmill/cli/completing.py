"""What a shell completes beside verbs and options: names that the site knows.

A completer only reads: it starts, records and writes nothing, and says nothing where it cannot help. Outside of a site,
and where the database is away, it knows no names.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nightmill.errors import NightmillError

if TYPE_CHECKING:
    from nightmill.config.site import SiteConfig


def file_types(ctx: typer.Context) -> list[str]:
    """Name the file types of the site."""
    config = _config(ctx)
    return sorted(config.file_types) if config else []


def stores(ctx: typer.Context) -> list[str]:
    """Name the stores of the site, in its order, without working areas."""
    config = _config(ctx)
    return [name for name, store in config.stores.items() if store.catalogued] if config else []


def sets(ctx: typer.Context, incomplete: str) -> list[str]:
    """Name sets of calibrations."""
    from nightmill.backbone.glimpse import SETS

    return _known(ctx, SETS, incomplete)


def campaigns(ctx: typer.Context, incomplete: str) -> list[str]:
    """Name campaigns."""
    from nightmill.backbone.glimpse import CAMPAIGNS

    return _known(ctx, CAMPAIGNS, incomplete)


def stages(ctx: typer.Context, incomplete: str) -> list[str]:
    """Name campaigns, and behind the slash the stages of one: how the name of a job begins."""
    from nightmill.backbone.glimpse import STAGES

    return _known(ctx, STAGES, incomplete) if "/" in incomplete else campaigns(ctx, incomplete)


def _known(ctx: typer.Context, known: str, begin: str) -> list[str]:
    from nightmill.backbone.glimpse import names
    from nightmill.config.site import READER_FILE

    config = _config(ctx)
    if config is None:
        return []
    url, secrets, reader_file = config.database_url, config.secrets, config.directory / READER_FILE
    with suppress(NightmillError, OSError):
        return names(url, known, begin, site=config.name, secrets=secrets, reader_file=reader_file)
    return []


def _config(ctx: typer.Context) -> SiteConfig | None:
    from nightmill.config.site import load_site

    folder = ctx.params.get("site")
    with suppress(NightmillError, OSError):
        return load_site(Path(folder) if folder else None, need_types=False)
    return None
