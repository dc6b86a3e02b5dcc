"""What a capsule runs with, images and confinement: as the site says that is found, but for what was typed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nightmill.errors import ConfigError, RequestRefused

if TYPE_CHECKING:
    from nightmill.model.confinement import NodeConfinement
    from nightmill.model.container import Containers
    from nightmill.model.order import JobOrder

RuntimeName = Annotated[
    str | None,
    typer.Option("--runtime", metavar="NAME", help="What runs images, instead of the site's; 'none' for nothing."),
]
Bound = Annotated[
    list[str] | None,
    typer.Option("--bind", metavar="PATH=HERE", help="Show a folder of yours at a path in the images, read-only."),
]


def containers_for(
    order: JobOrder, site: Path | None, runtime: str | None = None, bind: list[str] | None = None
) -> Containers:
    """Return what the steps of an order are run with; a site is looked for where one names an image.

    Raises
    ------
    ConfigError
        Where a site is named that is not one.
    RequestRefused
        Where what was typed is not what is asked for.
    """
    from nightmill.config.build import build
    from nightmill.config.site import load_site
    from nightmill.model.container import Containers

    said = Containers()
    if any(step.image for step in order.steps):
        try:
            said = load_site(site, need_types=False).containers
        except ConfigError:
            if site is not None:
                raise
    bound = dict(said.bind)
    for word in bind or ():
        target, equals, source = word.partition("=")
        if not equals or not source or not target.startswith("/"):
            raise RequestRefused(f"--bind {word!r} is not of the form PATH=HERE", remedy="write --bind /opt/code=mine")
        bound[target] = Path(source).absolute()
    chosen = {"runtime": runtime} if runtime else {}
    return build(Containers, {**dict(said), "bind": bound, **chosen}, lambda key: f"--{key[0]}" if key else "")


def confinement_for(site: Path | None) -> NodeConfinement:
    """Return how steps are confined; not at all where no site is found, which would say what they may read.

    Raises
    ------
    ConfigError
        Where a site is named that is not one.
    """
    from nightmill.config.site import load_site
    from nightmill.model.confinement import NodeConfinement, Use

    try:
        return load_site(site, need_types=False).confinement
    except ConfigError:
        if site is not None:
            raise
        return NodeConfinement(use=Use.OFF)
