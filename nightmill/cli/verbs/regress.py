"""``nightmill regress``: whether new software gives what the old gave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from nightmill.cli.completing import stages
from nightmill.cli.shape import SiteFolder, Why, job_of
from nightmill.errors import RequestRefused

if TYPE_CHECKING:
    from nightmill.files.comparison import Tolerance

EXAMPLES: Final = (
    "nightmill regress first/clean/exposure=2,detector=2",
    "nightmill regress tinycam_2_stack_c0001a01.fits --tolerance 1e-6 --column flux=1e-4",
    'nightmill regress --accept 3f2ab4c5d6e7 --why "a security update of the C library"',
)


def regress(
    references: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="REFERENCES...",
            help="Jobs, attempts of jobs, or files that attempts made, as they came out before.",
            autocompletion=stages,
        ),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(metavar="FRACTION", min=0.0, help="Numbers may differ by this fraction of themselves.")
    ] = 0.0,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FRACTION", help="The same for a column of tables; may be given again."),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="KEYWORD", help="A keyword of FITS headers that does not count, beside DATE."),
    ] = None,
    accept: Annotated[
        str, typer.Option(metavar="DIGEST", help="Accept this software without a regression; its first digits do.")
    ] = "",
    why: Why = "",
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Carry out attempts again with the software of this host, and compare what they make with what is on record.

    Nothing is published. The verdict is on record with the software: where the site gates what is new, steps may run
    with it once this passed. Exit code 1 where something differs.
    """
    from nightmill.cli.documents.software import Accepted
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.output import echo, print_json, say
    from nightmill.cli.render.software import print_regressions, show_regression
    from nightmill.operations.regress import reference_of
    from nightmill.operations.regress import regress as carry_out
    from nightmill.operations.software import accept as accept_software

    if bool(references) is bool(accept):
        raise RequestRefused(
            "a regression needs a reference", remedy="name a job that ran, or accept software with --accept DIGEST"
        )
    allowed = _tolerance(tolerance, column or ())
    with open_without_types(site) as opened:
        if accept:
            stack = accept_software(opened, accept, why=why)
            if as_json:
                print_json(Accepted(software=stack.bare_sha256))
            else:
                echo(f"software {stack.bare_sha256[:12]} is accepted")
            return
        attempts = (reference_of(opened, name, *job_of(name)) for name in references or ())
        done = []
        for each in carry_out(opened, attempts, tolerance=allowed, ignored=ignore or (), why=why, tell=say):
            done.append(each)
            if not as_json:
                show_regression(each)
    if as_json:
        print_regressions(done)
    if not all(each.passed for each in done):
        raise typer.Exit(1)


def _tolerance(relative: float, columns: list[str] | tuple[str, ...]) -> Tolerance:
    from nightmill.files.comparison import Tolerance

    own = {}
    for each in columns:
        name, _, fraction = each.partition("=")
        try:
            own[name] = float(fraction)
        except ValueError:
            own[name] = -1.0
        if not name or not 0 <= own[name] < float("inf"):
            raise RequestRefused(f"--column {each!r} is not NAME=FRACTION", remedy="write it as flux=1e-4")
    return Tolerance(relative, own)
