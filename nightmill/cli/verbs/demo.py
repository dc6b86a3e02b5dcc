"""``nightmill demo``: the whole thing, from nothing, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

EXAMPLES: Final = (
    "nightmill demo",
    "nightmill demo /tmp/demo --exposures 4",
)


def demo(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder for it; a demo that is there is replaced.")
    ] = Path("nightmill-demo"),
    exposures: Annotated[
        int, typer.Option(metavar="N", min=4, max=50, help="Science exposures of the simulated night.")
    ] = 12,
) -> None:
    """Simulate a night of a small camera and process it.

    From nothing: site, server, ingest, two campaigns, a failure, a rerun, lineage. Every command that it runs is shown,
    so that you can type it yourself. Nothing outside of the folder is touched. The server stays up, so that you can
    look at what happened.
    """
    from nightmill.cli.demonstration import Demo

    Demo(directory.resolve(), exposures).run()
