"""``nightmill withdraw``: files that were taken in by mistake."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from nightmill.cli.render.output import echo
from nightmill.cli.shape import SiteFolder

EXAMPLES: Final = ("nightmill withdraw img012.fits --why 'of another telescope'",)


def withdraw(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="Names of files that people brought.")],
    why: Annotated[str, typer.Option(metavar="TEXT", help="Why, in words; kept with the act.")],
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was withdrawn as JSON.")] = False,
) -> None:
    """Withdraw files that were taken in by mistake.

    No plan takes them from now on. Their bytes stay in the store, their names stay taken, and what was known of them
    stays known. Refused as a whole where a job reads one of them, or is planned to.
    """
    from nightmill.cli.documents.files import Withdrawn
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.output import print_json
    from nightmill.operations.withdrawals import withdraw as withdraw_files

    with open_without_types(site) as opened:
        done = withdraw_files(opened, files, why=why)
    if as_json:
        print_json(Withdrawn(withdrawn=done))
    else:
        echo(f"{len(done)} withdrawn")
