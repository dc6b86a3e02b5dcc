"""``nightmill plan``: what a campaign would do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from nightmill.cli.shape import EngineName, Exclude, Overrides, Settings, SiteFolder, time_of

EXAMPLES: Final = (
    "nightmill plan first.yaml",
    "nightmill plan first.yaml --set parameters.clip=3 --limit 0",
    "nightmill plan first.yaml --override fix.yaml --explain parameters.clip",
    "nightmill plan first.yaml --exclude 'exposure == 12' --exclude 'FILE img013.fits'",
    "nightmill plan first.yaml --as-of 2026-01-10T03:12:45",
    "nightmill plan first.yaml --as-of 2026-01-10 --differences",
    "nightmill plan first.yaml --set parameters.clip=3 --against first.yaml",
    "nightmill plan first.yaml --save",
)


def plan(
    campaign: Annotated[Path, typer.Argument(metavar="CAMPAIGN", help="The campaign's YAML file.")],
    settings: Settings = None,
    overrides: Overrides = None,
    exclude: Exclude = None,
    engine: EngineName = "",
    limit: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Units to show of each stage, or changes; 0 for all, with all that they read."
        ),
    ] = 10,
    as_of: Annotated[
        str, typer.Option(metavar="TIME", help="From what the catalogue knew then, UTC; a date is its beginning.")
    ] = "",
    differences: Annotated[
        bool, typer.Option("--differences", help="With --as-of: show what differs since then, up to now.")
    ] = False,
    explain: Annotated[
        str, typer.Option(metavar="KEY", help="Only show what each layer says of a value, and of those below it.")
    ] = "",
    against: Annotated[
        str,
        typer.Option(
            metavar="OTHER",
            help="Show how it differs from another campaign file, a campaign on record, or a saved plan's digest.",
        ),
    ] = "",
    save: Annotated[bool, typer.Option("--save", help="Keep the plan, for nightmill submit --plan DIGEST.")] = False,
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Show what a campaign would do; nothing is done.

    Its units, their inputs with the rule that chose each, the names of their outputs; the plan's digest, and what it
    would cost. A plan that cannot be carried out is refused with every problem that it has.
    """
    from nightmill.cli.render.comparison import print_comparison, write_comparison
    from nightmill.cli.render.output import echo, say, working
    from nightmill.cli.render.planning import print_explained, print_plan, write_plan
    from nightmill.config.campaign import Written, load_campaign
    from nightmill.config.explain import explain as explained
    from nightmill.config.site import load_site
    from nightmill.operations.comparison import plan_then, plan_to_compare
    from nightmill.operations.costs import cost_of
    from nightmill.operations.preview import preview
    from nightmill.operations.saved_plans import save as save_plan
    from nightmill.operations.saved_plans import shown
    from nightmill.operations.site import open_site
    from nightmill.planning.compare import compare
    from nightmill.planning.digest import text_of
    from nightmill.planning.network import network_paths

    _refuse_mixed(explain=explain, against=against, save=save, as_of=as_of, differences=differences)
    if explain:
        layers = load_site(site, need_types=False).defaults
        written = Written(campaign, settings or (), exclude or (), overrides or (), layers, engine)
        print_explained(explained(written, explain), as_json)
        return
    then = time_of("--as-of", as_of) if as_of else None
    with open_site(site) as opened:
        described = load_campaign(
            campaign,
            settings or (),
            exclude or (),
            overrides=overrides or (),
            defaults=opened.config.defaults,
            engine=engine,
        )
        out = typer.get_text_stream("stdout")
        with working(f"Planning {described.name}"):
            other = plan_to_compare(opened, against) if against else None
            if differences and then is not None:
                other, then = plan_then(opened, described, then), None
            if save:
                planned, text = save_plan(opened, described)
            else:
                planned = preview(opened, described, as_of=then)
                text = text_of(planned)
        for sentence in [] if planned.problems else network_paths(described.pipeline, opened.config):
            say(f"warning: {sentence}")
        if other is not None:
            planned.require()
            comparison = compare(other, text)
            if as_json:
                write_comparison(comparison, out)
            else:
                print_comparison(comparison, limit)
        elif as_json:
            write_plan(planned, out, None if planned.problems else text, cost_of(opened, planned))
            planned.require()
        else:
            planned.require()
            print_plan(planned, limit, text, cost_of(opened, planned))
        if save and not as_json:
            echo(f"saved as campaign {planned.number}: nightmill submit --plan {shown(text.digest)}")


def _refuse_mixed(*, explain: str, against: str, save: bool, as_of: str, differences: bool) -> None:
    """Refuse options that do not go together."""
    from nightmill.errors import RequestRefused

    if explain and (against or save or as_of):
        raise RequestRefused(
            "--explain plans nothing", remedy="leave out --against, --as-of and --save, or call it twice"
        )
    if differences and (against or not as_of):
        raise RequestRefused(
            "--differences compares the plan as of then with that of now", remedy="give it --as-of, without --against"
        )
    if save and as_of:
        raise RequestRefused("a plan as of then cannot be submitted", remedy="leave out --save, or --as-of")
