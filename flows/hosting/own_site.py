"""The one site that a flow opens: the one that it was deployed for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from nightmill.config.site import SITE_VARIABLE
from nightmill.errors import RequestRefused

REFUSED: Final = "Refused"
"""Name of the state of a flow run that is not carried out as it stands; nothing was begun."""


def own_site(site: str) -> Path:
    """Return the site of this process, where a flow run is to work on it.

    A site's configuration says what programs are run: so whose flow run it is must not choose it.

    Parameters
    ----------
    site
        What the flow run's parameter says.

    Raises
    ------
    RequestRefused
        Where it says another one.
    """
    own = os.environ.get(SITE_VARIABLE, "")
    if not own:
        raise RequestRefused(
            f"this process carries out flow runs of no site: {SITE_VARIABLE} is not set",
            remedy=f"export {SITE_VARIABLE}=/path/to/site before the worker is started",
        )
    if Path(site).resolve() != Path(own).resolve():
        raise RequestRefused(f"the flow run is for site {site}, and was deployed for {own}: nothing was begun")
    return Path(own)
