"""Workflow-orchestrated batch processing for astronomical survey operations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nightmill.library import Site

__version__ = "0.3.0"
__all__ = ["__version__", "open_site"]


def open_site(directory: Path | str | None = None) -> Site:
    """Open a site for a notebook or a program.

    Parameters
    ----------
    directory
        Its folder; by default that of ``NIGHTMILL_SITE``, else the nearest above the working directory.

    Returns
    -------
    nightmill.library.Site
        Whose methods find, plan, submit and ask, with tables as answers.
    """
    from nightmill.library import Site

    return Site(directory)
