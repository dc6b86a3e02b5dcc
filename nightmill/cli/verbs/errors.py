"""``nightmill errors``: failures that the site knows by name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from nightmill.cli.completing import campaigns
from nightmill.cli.render.output import echo
from nightmill.cli.shape import SiteFolder, Why, examples, group

app = group(help="Teach the site what failures mean, and what is done.")

LATEST: Final = 1000
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the error.")]


@app.command(epilog=examples("nightmill errors add errors.yaml --why 'seen in the January run'"))
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A YAML file of rules.")],
    why: Why,
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
) -> None:
    """Put rules on record, switched off.

    A rule whose name is there already becomes its next version.
    """
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.errors import show_errors
    from nightmill.config.error_rules import load_error_rules
    from nightmill.operations.errors import add as add_errors

    rules = load_error_rules(file)
    with open_without_types(site) as opened:
        added = add_errors(opened, rules, why=why)
    if as_json:
        show_errors(added, as_json=True)
        return
    for each in added:
        echo(f"{each}: {'on' if each.is_on else 'off'}")
    if off := [each.rule.name for each in added if not each.is_on]:
        echo(f"try it on past failures, then switch it on: nightmill errors try {off[0]}; nightmill errors on {off[0]}")


@app.command("list")
def list_(
    everything: Annotated[bool, typer.Option("--all", help="Every version of each.")] = False,
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
) -> None:
    """List the errors that the site knows, and which of their rules are on."""
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.errors import show_errors
    from nightmill.operations.errors import errors

    with open_without_types(site) as opened:
        show_errors(errors(opened, everything=everything), as_json=as_json)


@app.command(
    "try", epilog=examples("nightmill errors try errors.yaml", "nightmill errors try few-stars --campaign first")
)
def try_(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="Name of an error, or a YAML file of rules.")],
    campaign: Annotated[
        str, typer.Option(metavar="NAME", help="On failures of this campaign alone.", autocompletion=campaigns)
    ] = "",
    latest: Annotated[int, typer.Option("--latest", metavar="N", min=1, help="On the last N failures.")] = LATEST,
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show which past failures a rule would have named, or accepted; nothing is changed."""
    from nightmill.backbone.work.campaigns import campaign_named
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.errors import show_trials
    from nightmill.config.error_rules import load_error_rules
    from nightmill.operations.errors import newest, trial

    path = Path(what)
    is_file = path.suffix in (".yaml", ".yml") or path.is_file()
    rules = load_error_rules(path) if is_file else None
    with open_without_types(site) as opened:
        if campaign:
            with opened.database.reading() as session:
                campaign_named(session, campaign)
        found = trial(opened, rules or [newest(opened, what)], latest=latest, campaign=campaign)
    show_trials(found, as_json=as_json)


@app.command(epilog=examples("nightmill errors on few-stars --why 'tried on January'"))
def on(
    name: Name,
    why: Why,
    version: Annotated[int | None, typer.Option(metavar="N", min=1, help="By default the newest.")] = None,
    site: SiteFolder = None,
) -> None:
    """Switch a rule on: from now on it names failures, and its action is taken; new orders have one that accepts."""
    _switch(name, why, site, is_on=True, version=version)


@app.command(epilog=examples("nightmill errors off few-stars --why 'names too much'"))
def off(name: Name, why: Why, site: SiteFolder = None) -> None:
    """Switch a rule off; failures that it named keep their name."""
    _switch(name, why, site, is_on=False)


def _switch(name: str, why: str, site: Path | None, *, is_on: bool, version: int | None = None) -> None:
    from nightmill.cli.opening import open_without_types
    from nightmill.operations.errors import switch

    with open_without_types(site) as opened:
        rule = switch(opened, name, is_on=is_on, why=why, version=version)
    echo(f"{rule}: {'on' if is_on else 'off'}")
