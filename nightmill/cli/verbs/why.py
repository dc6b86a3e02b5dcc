"""``nightmill why``: why a file is here, or is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from nightmill.cli.render.output import echo, plain_line
from nightmill.cli.shape import SiteFolder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightmill.backbone.catalogue.replicas import Replica
    from nightmill.backbone.schema import CalibrationRow, FileRow, RefusalRow
    from provenance.history import Maker


DIGITS: Final = 16
"""Of a digest: the name of a bundle in the catalogue has as many."""
EXAMPLES: Final = (
    "nightmill why tinycam_2_stack_c0001a01.fits",
    "nightmill why night/img007_1.fits",
)


def why(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Name of a file, or the path that it was offered at.")],
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Tell why a file is here, or why it is not.

    Who brought it or what made it, and which rule chose each file that it was made of. Of a file that was not taken in,
    tell when it was refused and why.
    """
    from nightmill.cli.documents import told
    from nightmill.cli.documents.files import Why
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.files import file_of
    from nightmill.cli.render.histories import maker_of
    from nightmill.cli.render.output import print_json
    from nightmill.operations.find import why as tell_why

    with open_without_types(site) as opened:
        story = tell_why(opened, file)
    found, maker = story.file, story.maker
    if as_json:
        print_json(
            told(
                Why,
                story,
                file=file_of(found) if found else None,
                made_by=maker_of(maker) if maker else None,
                calibration=story.roles,
            )
        )
        return
    if found is not None:
        _tell_origin(found.row, maker)
        for withdrawal in story.withdrawals:
            echo(f"It {withdrawal}")
        _tell_place(found.copies, story.roles)
    for each in story.refused:
        _tell_refusal(each)


def _tell_origin(row: FileRow, maker: Maker | None) -> None:
    from nightmill.cli.render.output import text

    when = f"{text(row.registered_at)} UTC"
    if row.origin == "raw":
        came = f", as {row.original_name}" if row.original_name != row.name else ""
        echo(
            f"{row.name} is a raw file: {row.registered_by} ingested it at {when}{came}. Nothing before that is known."
        )
    elif row.origin == "manual":
        echo(f"{row.name} was brought by {row.registered_by} at {when}, as {row.original_name}. In their words:")
        echo(f"  {row.provenance}")
    elif maker is None:
        echo(f"{row.name} was kept of an attempt at {when}; no step made it.")
    else:
        ran = maker.execution
        named = f", which called it {maker.produced_name}" if maker.produced_name else ""
        seen = f", with bundle {maker.bundle[:DIGITS]}" if maker.bundle else ""
        echo(f"{row.name} was made by step {ran.step} of {maker.attempt_name} on {ran.host}{seen}{named}:")
        echo(f"  {' '.join(ran.argv)}")
        if ran.accepted:
            echo(f"It exited with code {ran.exit_code}, accepted as {ran.accepted} (version {ran.accepted_version}).")
        _tell_inputs(maker)


def _tell_inputs(maker: Maker) -> None:
    """Tell what the step read and why, what of that it left out, and what it told that the file was made of."""
    from nightmill.cli.render.knowledge import whether
    from nightmill.cli.render.output import print_table

    step = maker.execution.step
    read = [each for each in maker.inputs if not each.left_out]
    own = [each for each in read if each.step == step]
    if own:
        echo("It read, beside what steps before it had made:")
        seen = any(each.opened is False for each in own)
        print_table(
            ("role", "file", "because", "said by", *(("opened",) if seen else ())),
            (
                (each.role, each.name, each.rule, each.origin, *((whether(each.opened),) if seen else ()))
                for each in own
            ),
        )
    before = [(each.step, each.role, each.name, each.rule, each.origin) for each in read if each.step != step]
    if before:
        echo("And files that are on no record, which steps before it had made of:")
        print_table(("step", "role", "file", "because", "said by"), before)
    left_out = [(each.step, each.role, each.name, each.left_out) for each in maker.inputs if each.left_out]
    if left_out:
        echo("What was given, and left out:")
        print_table(("step", "role", "file", "because"), left_out)
    if maker.made_of is not None:
        echo(f"The step tells that of all this it was made of: {', '.join(maker.made_of) or 'nothing'}.")


def _tell_place(copies: Sequence[Replica], roles: Sequence[CalibrationRow]) -> None:
    from nightmill.cli.render.output import text

    for copy in copies:
        echo(f"A copy is in store {copy.store} as {copy.path} ({copy.state}).")
    if not copies:
        echo("It is not kept: no store has a copy.")
    for role in roles:
        valid = f"{text(role.valid_from)} to {text(role.valid_until)}"
        echo(
            f"Calibration in set {role.set_name}, {role.maturity}, for {valid}: {role.who}, {text(role.at)}: {role.why}"
        )


def _tell_refusal(row: RefusalRow) -> None:
    from nightmill.cli.render.output import text

    echo(
        f"{plain_line(row.path)} was refused at {text(row.at)} UTC, offered by {row.who} as {row.type} ({row.origin}):"
    )
    echo(f"  {row.reason}: {plain_line(row.message)}")
