"""``nightmill retype``: files that were taken in as something else than they are."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from nightmill.cli.completing import file_types
from nightmill.cli.render.output import echo
from nightmill.cli.shape import SiteFolder

EXAMPLES: Final = ("nightmill retype img012.fits --type raw_flat --why 'the wheel stood at the flat lamp'",)


def retype(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="Names of files that people brought.")],
    type_: Annotated[str, typer.Option("--type", metavar="TYPE", help="What they are.", autocompletion=file_types)],
    why: Annotated[str, typer.Option(metavar="TEXT", help="Why, in words; kept with the act.")],
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was retyped as JSON.")] = False,
) -> None:
    """Take files for another type.

    Each is read again as one of it, from its copy in the store; what it was taken for before stays on record. One that
    was withdrawn is taken back. Refused as a whole where a job reads one of them, or is planned to.
    """
    from nightmill.cli.documents import told
    from nightmill.cli.documents.files import Retyped
    from nightmill.cli.render.output import print_json
    from nightmill.operations.site import open_site
    from nightmill.operations.withdrawals import retype as retype_files

    with open_site(site) as opened:
        done = retype_files(opened, files, type=type_, why=why)
    if as_json:
        print_json([told(Retyped, each) for each in done])
        return
    for each in done:
        lost = f", and not a calibration of {', '.join(each.roles)} any more" if each.roles else ""
        echo(f"{each.name} is a {each.type} now, and was a {each.before}{lost}")
