"""``nightmill plan``: what a campaign would do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from nightmill.cli.shape import Exclude, Overrides, Settings, SiteFolder, time_of

EXAMPLES: Final = (
    "nightmill plan first.yaml",
    "nightmill plan first.yaml --set parameters.clip=3 --limit 0",
    "nightmill plan first.yaml --override fix.yaml --explain parameters.clip",
    "nightmill plan first.yaml --exclude 'exposure == 12' --exclude 'FILE img013.fits'",
    "nightmill plan first.yaml --as-of 2026-01-10T03:12:45",
)


def plan(
    campaign: Annotated[Path, typer.Argument(metavar="CAMPAIGN", help="The campaign's YAML file.")],
    settings: Settings = None,
    overrides: Overrides = None,
    exclude: Exclude = None,
    limit: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Units to show of each stage; 0 for all, with all that they read."),
    ] = 10,
    as_of: Annotated[
        str, typer.Option(metavar="TIME", help="From what the catalogue knew then, UTC; a date is its beginning.")
    ] = "",
    explain: Annotated[
        str, typer.Option(metavar="KEY", help="Only show what each layer says of a value, and of those below it.")
    ] = "",
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Show what a campaign would do; nothing is written.

    Its units, their inputs with the rule that chose each, the names of their outputs. A plan that cannot be carried out
    is refused with every problem that it has.
    """
    from nightmill.cli.render.output import working
    from nightmill.cli.render.planning import print_explained, print_plan, write_plan
    from nightmill.config.campaign import Written, load_campaign
    from nightmill.config.explain import explain as explained
    from nightmill.config.site import load_site
    from nightmill.errors import RequestRefused
    from nightmill.operations.preview import preview
    from nightmill.operations.site import open_site

    if explain:
        if as_of:
            raise RequestRefused("--explain plans nothing", remedy="leave out --as-of, or call it twice")
        layers = load_site(site, need_types=False).defaults
        written = Written(campaign, settings or (), exclude or (), overrides or (), layers)
        print_explained(explained(written, explain), as_json)
        return
    then = time_of("--as-of", as_of) if as_of else None
    with open_site(site) as opened:
        described = load_campaign(
            campaign, settings or (), exclude or (), overrides=overrides or (), defaults=opened.config.defaults
        )
        with working(f"Planning {described.name}"):
            planned = preview(opened, described, as_of=then)
    if as_json:
        write_plan(planned, typer.get_text_stream("stdout"))
    planned.require()
    if not as_json:
        print_plan(planned, limit)
