"""``nightmill ops``: statistics of what was carried out."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from nightmill.cli.completing import campaigns
from nightmill.cli.shape import SiteFolder, examples, group
from nightmill.errors import RequestRefused

app = group(help="Tell what jobs took, over all campaigns.")

LEAST: Final = 20


@app.callback()
def ops() -> None:
    """Tell what jobs took, over all campaigns."""


@app.command(
    epilog=examples(
        "nightmill ops resources first",
        "nightmill ops resources --pipeline tiny --stage clean",
        "nightmill ops resources --pipeline tiny --yaml > better.yaml",
    )
)
def resources(
    campaign: Annotated[
        str, typer.Argument(metavar="CAMPAIGN", help="Only jobs of this campaign.", autocompletion=campaigns)
    ] = "",
    pipeline: Annotated[str, typer.Option(metavar="NAME", help="Only jobs of this pipeline.")] = "",
    stage: Annotated[str, typer.Option(metavar="NAME", help="Only jobs of this stage.")] = "",
    least: Annotated[
        int, typer.Option(metavar="N", min=1, help="Propose nothing from fewer jobs that ended well.")
    ] = LEAST,
    as_yaml: Annotated[
        bool, typer.Option("--yaml", help="Print what is proposed alone, as a YAML file for --override.")
    ] = False,
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Tell what jobs asked for and what they took, and propose what they would better ask for."""
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.output import echo
    from nightmill.cli.render.resources import show_needs
    from nightmill.operations.resources import needs, override

    if as_yaml and as_json:
        raise RequestRefused("--yaml and --json exclude each other", remedy="give one of them")
    with open_without_types(site) as opened:
        found = needs(opened, campaign=campaign, pipeline=pipeline, stage=stage, least=least)
    if as_yaml:
        echo(override(found), nl=False)
    else:
        show_needs(found, as_json=as_json)


@app.command(epilog=examples("nightmill ops software", "nightmill ops software first --json"))
def software(
    campaign: Annotated[
        str, typer.Argument(metavar="CAMPAIGN", help="Only what ran for this campaign.", autocompletion=campaigns)
    ] = "",
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Tell with what software steps ran, where and when, and which hosts have another than the rest of a campaign."""
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.software import show_in_use
    from nightmill.operations.software import in_use

    with open_without_types(site) as opened:
        found = in_use(opened, campaign)
    show_in_use(found, as_json=as_json)


@app.command(epilog=examples("nightmill ops transfers", "nightmill ops transfers first --json"))
def transfers(
    campaign: Annotated[
        str, typer.Argument(metavar="CAMPAIGN", help="Only those of this campaign.", autocompletion=campaigns)
    ] = "",
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Tell what came from one site to another, by campaign and way: files, bytes, how fast."""
    from nightmill.backbone.catalogue.transfers import routes
    from nightmill.backbone.work.campaigns import campaign_named
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.transfers import show_routes

    with open_without_types(site) as opened, opened.database.reading() as session:
        if campaign:
            campaign_named(session, campaign)
        found = list(routes(session, campaign=campaign))
    show_routes(found, as_json=as_json)


@app.command(
    epilog=examples("nightmill ops inputs", "nightmill ops inputs first --json", "nightmill ops inputs --stage stack")
)
def inputs(
    campaign: Annotated[
        str, typer.Argument(metavar="CAMPAIGN", help="Only those of this campaign.", autocompletion=campaigns)
    ] = "",
    pipeline: Annotated[str, typer.Option(metavar="NAME", help="Only those of this pipeline.")] = "",
    stage: Annotated[str, typer.Option(metavar="NAME", help="Only those of this stage.")] = "",
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Tell which inputs were staged and never opened, which steps eliminated and why, and how plan and use differ."""
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.inputs import show_inputs
    from provenance.inputs import inputs_report

    with open_without_types(site) as opened, opened.database.reading() as session:
        found = inputs_report(session, campaign=campaign, pipeline=pipeline, stage=stage)
    show_inputs(found, as_json=as_json)
