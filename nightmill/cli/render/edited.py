"""What submit and rerun have in common where a pipeline's folder was edited."""

from __future__ import annotations

from nightmill.cli.render.output import echo
from nightmill.errors import RequestRefused
from nightmill.operations.edited import Folder, diff
from nightmill.operations.site import Site


def wanted_folder(*, edited: bool, as_submitted: bool) -> Folder:
    """Return which state of the folder was asked for.

    Raises
    ------
    RequestRefused
        Where both were.
    """
    if edited and as_submitted:
        raise RequestRefused("--edited and --as-submitted exclude each other", remedy="say one of them")
    return Folder.EDITED if edited else Folder.AS_SUBMITTED if as_submitted else Folder.ASK


def show_diff(site: Site, campaign: str) -> None:
    """Print how the folder of a campaign's pipeline was edited."""
    echo(diff(site, campaign) or f"campaign {campaign}: the folder of its pipeline is as its jobs see it")
