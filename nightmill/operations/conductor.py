"""The conductor of a site, which is a plug-in: nothing below the flows knows Prefect."""

from __future__ import annotations

from typing import Final, cast

from nightmill import plugins
from nightmill.model.ports import Conductor
from nightmill.operations.site import Site

ENTRY_POINT: Final = "nightmill.conductors"
"""Group of the plug-ins: a class that is made with a :class:`~nightmill.operations.site.Site`."""


def conductor_of(site: Site) -> Conductor:
    """Return what has the campaigns of a site conducted.

    Raises
    ------
    UnknownName
        Where no such plug-in is installed.
    """
    found = plugins.load(ENTRY_POINT, "prefect", what="conductor", remedy="install nightmill anew")
    return cast(Conductor, found(site))
