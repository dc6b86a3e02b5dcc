"""``nightmill exclude``: files that must not be inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nightmill.cli.completing import file_types
from nightmill.cli.render.output import echo
from nightmill.cli.shape import SiteFolder, Why, examples, group, time_of

app = group(help="Exclude files from inputs, list exclusions and lift them.")


@app.command(
    epilog=examples(
        "nightmill exclude add --night 20260110 --why clouds",
        "nightmill exclude add img012.fits --part im07 --why 'amplifier dead' --ticket OPS-12",
        "nightmill exclude add --exposure 12 --up-to science --campaign first --why 'test exposure'",
    )
)
def add(
    files: Annotated[list[str] | None, typer.Argument(metavar="FILE", help="Names of files.")] = None,
    exposure: Annotated[int | None, typer.Option(metavar="N", help="What is of this exposure.")] = None,
    detector: Annotated[int | None, typer.Option(metavar="N", help="What is of this detector.")] = None,
    night: Annotated[int | None, typer.Option(metavar="N", help="What is of this night.")] = None,
    where: Annotated[str, typer.Option(metavar="EXPR", help="What fulfils this expression.")] = "",
    type_: Annotated[
        list[str] | None,
        typer.Option(
            "--type", metavar="TYPE", help="Of this type alone; may be given again.", autocompletion=file_types
        ),
    ] = None,
    part: Annotated[
        str, typer.Option(metavar="PART", help="The HDU or amplifier that alone is bad: the file stays.")
    ] = "",
    campaign: Annotated[str, typer.Option(metavar="NAME", help="In this campaign alone, now or later.")] = "",
    up_to: Annotated[str, typer.Option(metavar="STAGE", help="From the stages after this one alone.")] = "",
    why: Annotated[str, typer.Option(metavar="TEXT", help="Why, in words; not needed with --dry-run.")] = "",
    ticket: Annotated[str, typer.Option(metavar="TICKET", help="Where more is said of it.")] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="When it ends by itself, UTC.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it would be about.")] = False,
    plan: Annotated[
        Path | None,
        typer.Option(metavar="CAMPAIGN", help="With --dry-run: show how the plan of this campaign file would differ."),
    ] = None,
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Exclude files from inputs: those that fulfil all that is given.

    From now on no plan takes them, and no job begins that reads them: one that was planned with them is held.
    """
    from nightmill.backbone.catalogue.exclusions import NewExclusion
    from nightmill.cli.render.exclusions import show_effect
    from nightmill.config.campaign import load_campaign
    from nightmill.errors import RequestRefused
    from nightmill.operations.exclusions import candidate, exclude, foresee, rule
    from nightmill.operations.preview import preview
    from nightmill.operations.site import open_site

    if plan is not None and not dry_run:
        raise RequestRefused("--plan shows what would differ", remedy="give --dry-run with it")
    expression, written = rule(files=files or (), exposure=exposure, detector=detector, night=night, where=where)
    new = NewExclusion(
        expression=expression,
        written=written,
        campaign=campaign,
        types=tuple(dict.fromkeys(type_ or ())),
        part=part,
        up_to=up_to,
        ticket=ticket,
        expires_at=time_of("--until", until) if until else None,
    )
    with open_site(site) as opened:
        described = load_campaign(plan, defaults=opened.config.defaults) if plan is not None else None
        if not dry_run:
            show_effect(exclude(opened, new, why=why, files=files or ()), as_json=as_json)
            return
        effect = foresee(opened, new, files=files or ())
        plans = None
        if described is not None:
            also = [candidate(new)] if campaign in ("", described.name) else []
            plans = preview(opened, described), preview(opened, described, also)
        show_effect(effect, plans, as_json=as_json)


@app.command("list")
def list_(
    everything: Annotated[bool, typer.Option("--all", help="Those that are lifted or over, too.")] = False,
    campaign: Annotated[str, typer.Option(metavar="NAME", help="Only those that this campaign must heed.")] = "",
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
) -> None:
    """List the exclusions that hold."""
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.exclusions import show_exclusions
    from nightmill.operations.exclusions import exclusions

    with open_without_types(site) as opened:
        show_exclusions(exclusions(opened, campaign=campaign, everything=everything), as_json=as_json)


@app.command(epilog=examples("nightmill exclude lift 3 --why 'it was the other night'"))
def lift(
    number: Annotated[int, typer.Argument(metavar="NUMBER", min=1, max=2**31 - 1, help="Of the exclusion.")],
    why: Why,
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what it was about as JSON.")] = False,
) -> None:
    """Lift an exclusion: plans take its files again.

    Jobs that it held are issued again by a rerun of their campaigns.
    """
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.exclusions import show_effect
    from nightmill.model.states import JobState
    from nightmill.operations.exclusions import lift as lift_exclusion

    with open_without_types(site) as opened:
        effect = lift_exclusion(opened, number, why=why)
    if as_json:
        show_effect(effect, as_json=True)
        return
    echo(f"exclusion {number} lifted")
    held = [each.job for each in effect.jobs if each.state is JobState.HELD]
    for campaign in dict.fromkeys(job.partition("/")[0] for job in held):
        echo(f"jobs of {campaign} are held: nightmill rerun {campaign}")
