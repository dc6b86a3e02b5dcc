"""``nightmill calib``: files in the role of calibrations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from math import isfinite
from pathlib import Path
from typing import Annotated

import typer

from nightmill.cli.completing import campaigns, file_types, sets
from nightmill.cli.render.output import echo
from nightmill.cli.shape import Overrides, Settings, SiteFolder, Why, examples, group, time_of

app = group(help="Add, certify, withdraw and list calibrations.")

Files = Annotated[list[str], typer.Argument(metavar="FILE", help="Names of files.")]
Set = Annotated[str, typer.Option("--set", metavar="SET", help="Name of the set.", autocompletion=sets)]


@app.command(
    epilog=examples("nightmill calib add flat_g.fits --set ccd --from 2026-01-10 --until 2026-02-10 --why 'clear sky'")
)
def add(
    files: Files,
    set_name: Set,
    valid_from: Annotated[str, typer.Option("--from", metavar="TIME", help="When they begin to be valid, UTC.")],
    valid_until: Annotated[str, typer.Option("--until", metavar="TIME", help="When they cease to be.")],
    why: Why,
    certified: Annotated[bool, typer.Option("--certified", help="Fit for use at once, instead of a draft.")] = False,
    site: SiteFolder = None,
) -> None:
    """Make files calibrations of a set.

    Those that are in it already get the new range and maturity.
    """
    from nightmill.cli.opening import open_without_types
    from nightmill.model.calibration import Maturity
    from nightmill.operations.calibrations import add as add_calibrations

    begin, end = time_of("--from", valid_from), time_of("--until", valid_until)
    maturity = Maturity.CERTIFIED if certified else Maturity.DRAFT
    with open_without_types(site) as opened:
        add_calibrations(opened, files, set_name, valid_from=begin, valid_until=end, maturity=maturity, why=why)
    echo(f"{len(files)} in set {set_name}, {maturity}")


@app.command()
def certify(files: Files, set_name: Set, why: Why, site: SiteFolder = None) -> None:
    """Say that calibrations of a set can be trusted.

    From now on they are looked up.
    """
    from nightmill.operations.calibrations import certify as certify_calibrations

    _change(certify_calibrations, "certified", files, set_name, why, site)


@app.command()
def withdraw(files: Files, set_name: Set, why: Why, site: SiteFolder = None) -> None:
    """Take calibrations out of use.

    What was made with them keeps them in its provenance.
    """
    from nightmill.operations.calibrations import withdraw as withdraw_calibrations

    _change(withdraw_calibrations, "withdrawn", files, set_name, why, site)


@app.command(epilog=examples("nightmill calib pin release-1 --set ccd --set flats --why 'as reviewed on Monday'"))
def pin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the context; it never changes.")],
    set_names: Annotated[
        list[str], typer.Option("--set", metavar="SET", help="A set; may be given again.", autocompletion=sets)
    ],
    why: Why,
    site: SiteFolder = None,
) -> None:
    """Pin the calibrations that are certified now under a name.

    An input whose source names the context chooses from these, whatever becomes of the sets.
    """
    from nightmill.cli.opening import open_without_types
    from nightmill.operations.calibrations import pin as pin_calibrations

    with open_without_types(site) as opened:
        context = pin_calibrations(opened, name, set_names, why=why)
    echo(f"context {context.name} pins {context.roles} calibrations, ID {context.sha256[:16]}")


@app.command()
def contexts(
    site: SiteFolder = None, as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False
) -> None:
    """List the contexts: calibrations that are pinned under a name.

    ``nightmill calib list --context NAME --json`` exports what one of them pins.
    """
    from nightmill.backbone.catalogue.calibrations import contexts as pinned
    from nightmill.cli.documents import told
    from nightmill.cli.documents.files import CalibrationContext
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.output import print_json, print_table

    with open_without_types(site) as opened, opened.database.reading() as session:
        found = [told(CalibrationContext, row, id=row.sha256[:16], roles=count) for row, count in pinned(session)]
    if as_json:
        print_json(found)
    else:
        print_table(
            ("context", "ID", "roles", "at", "who", "why"),
            ((each.name, each.id, each.roles, each.at, each.who, each.why) for each in found),
        )


@app.command("list")
def list_(
    set_name: Annotated[str, typer.Option("--set", metavar="SET", help="Only of this set.", autocompletion=sets)] = "",
    context: Annotated[str, typer.Option(metavar="NAME", help="What this context pins, instead of what holds.")] = "",
    type_: Annotated[
        str, typer.Option("--type", metavar="TYPE", help="Only of this file type.", autocompletion=file_types)
    ] = "",
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
) -> None:
    """List calibrations with the role that each holds now, withdrawn ones too."""
    from nightmill.backbone.catalogue.calibrations import current
    from nightmill.cli.documents import told
    from nightmill.cli.documents.files import Calibration
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.output import print_json, print_table

    with open_without_types(site) as opened, opened.database.reading() as session:
        roles = current(session, [set_name] if set_name else [], type_, context=context)
    found = [
        told(Calibration, role, set=role.set_name, file=role.file.name, type=role.file.type, data_id=role.file.data_id)
        for role in roles
    ]
    if as_json:
        print_json(found)
    else:
        columns = [field.name for field in fields(Calibration)]
        print_table(
            [column.replace("_", " ").replace(" id", " ID") for column in columns],
            ([getattr(each, column) for column in columns] for each in found),
        )


@app.command(
    epilog=examples(
        "nightmill calib report night1",
        "nightmill calib report night1.yaml --set pipeline.stages.science.inputs.flat.lookup.strategy=valid",
    )
)
def report(
    campaign: Annotated[
        str,
        typer.Argument(
            metavar="CAMPAIGN", help="A campaign on record, or the YAML file of one.", autocompletion=campaigns
        ),
    ],
    settings: Settings = None,
    overrides: Overrides = None,
    older_than: Annotated[
        float, typer.Option(metavar="DAYS", min=0, help="How far from its unit in time one counts as too old.")
    ] = 30.0,
    limit: Annotated[
        int, typer.Option(metavar="N", min=0, help="Calibrations to ask for that are shown; 0 for all.")
    ] = 10,
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Tell which calibrations a campaign relies on, how good they are, and which to ask for.

    Of a campaign on record it reads what its jobs were sealed with; of a file, what would be planned now.
    """
    from nightmill.cli.render.output import working
    from nightmill.cli.render.reliance import print_report, print_report_json
    from nightmill.config.campaign import load_campaign
    from nightmill.errors import RequestRefused
    from nightmill.operations.reliance import relies, would_rely
    from nightmill.operations.site import open_site

    if not isfinite(older_than):
        raise RequestRefused(f"--older-than {older_than} is not a number of days", remedy="write 30, or 0.5")
    is_file = Path(campaign).suffix in (".yaml", ".yml")
    if not is_file and (settings or overrides):
        raise RequestRefused(
            f"{campaign} is on record, and not changed by --set and --override", remedy="give the file of a campaign"
        )
    with open_site(site) as opened, working(f"Looking at the calibrations of {campaign}"):
        if is_file:
            layers = opened.config.defaults
            described = load_campaign(Path(campaign), settings or (), overrides=overrides or (), defaults=layers)
            found = would_rely(opened, described, older_days=older_than)
        else:
            found = relies(opened, campaign, older_days=older_than)
    if as_json:
        print_report_json(found)
    else:
        print_report(found, limit)


def _change(
    act: Callable[..., list[str]], done: str, files: list[str], set_name: str, why: str, site: Path | None
) -> None:
    from nightmill.cli.opening import open_without_types

    with open_without_types(site) as opened:
        changed = act(opened, files, set_name, why=why)
    echo(f"{len(changed)} {done} in set {set_name}, {len(set(files)) - len(changed)} were already")
