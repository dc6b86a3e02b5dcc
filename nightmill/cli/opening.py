"""Opening a site for verbs that work without its file types."""

from __future__ import annotations

from pathlib import Path

import typer

from nightmill.cli.render.output import echo, secho
from nightmill.operations.site import Site, open_site


def open_without_types(directory: Path | None) -> Site:
    """Open a site; what is wrong with its file types is told on stderr, and stops nothing.

    Raises
    ------
    ConfigError, RequestRefused, DatabaseAway
        As :func:`nightmill.operations.site.open_site`.
    """
    site = open_site(directory, need_types=False)
    for error in site.config.wrong_types:
        secho("warning: ", fg=typer.colors.YELLOW, bold=True, nl=False, err=True)
        echo(str(error), err=True)
    return site
