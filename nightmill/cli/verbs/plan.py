"""``nightmill plan``: what a campaign would do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from nightmill.cli.shape import Exclude, SiteFolder

EXAMPLES: Final = (
    "nightmill plan first.yaml",
    "nightmill plan first.yaml --set parameters.clip=3 --limit 0",
    "nightmill plan first.yaml --exclude 'exposure == 12' --exclude 'FILE img013.fits'",
)


def plan(
    campaign: Annotated[Path, typer.Argument(metavar="CAMPAIGN", help="The campaign's YAML file.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value; may be given again.")
    ] = None,
    exclude: Exclude = None,
    limit: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Units to show of each stage; 0 for all, with all that they read."),
    ] = 10,
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Show what a campaign would do; nothing is written.

    Its units, their inputs with the rule that chose each, the names of their outputs. A plan that cannot be carried out
    is refused with every problem that it has.
    """
    from nightmill.cli.render.output import working
    from nightmill.cli.render.planning import print_plan, write_plan
    from nightmill.config.campaign import load_campaign
    from nightmill.operations.preview import preview
    from nightmill.operations.site import open_site

    described = load_campaign(campaign, settings or (), exclude or ())
    with open_site(site) as opened, working(f"Planning {described.name}"):
        planned = preview(opened, described)
    if as_json:
        write_plan(planned, typer.get_text_stream("stdout"))
    planned.require()
    if not as_json:
        print_plan(planned, limit)
