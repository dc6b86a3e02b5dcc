"""``nightmill verify``: whether record and bytes are what workers signed."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from nightmill.cli.render.output import echo
from nightmill.cli.shape import SiteFolder

EXAMPLES: Final = (
    "nightmill verify first",
    "nightmill verify tinycam_2_stack_c0001a01.fits",
    "nightmill verify first --no-bytes",
)


def verify(
    name: Annotated[str, typer.Argument(metavar="FILE|CAMPAIGN", help="Name of a file or a campaign.")],
    bytes_too: Annotated[
        bool, typer.Option("--bytes/--no-bytes", help="Read the copies of files, or compare the record alone.")
    ] = True,
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Verify a file, or all that a campaign made, by what workers signed.

    Workers sign what they claim of each attempt: its order, what it read and made, how its steps were watched. The
    record is compared with that, the chain of each journal's statements is followed, and every copy at this site is
    read. No journal is needed. Exit code 1 says that something is wrong, or could not be read.
    """
    from nightmill.cli.documents import told
    from nightmill.cli.documents.verified import Verified
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.output import print_json, progress
    from nightmill.operations.verify import verify as verify_record
    from nightmill.planning.problems import counted

    with open_without_types(site) as opened, progress("verify") as report:
        found = verify_record(opened, name, bytes_too=bytes_too, progress=report)
    if as_json:
        print_json(told(Verified, found))
    else:
        unsigned = f", {found.before} from before the site had a key" if found.before else ""
        if found.attempts:
            echo(f"{found.signed} of {counted(found.attempts, 'attempt')} signed{unsigned}")
        if bytes_too:
            have = "copy has" if found.copies == 1 else "copies have"
            echo(f"{counted(found.files, 'file')}: {found.copies} {have} the bytes that are on record")
    for each in found.wrong:
        echo(f"wrong: {each.what}: {each.why}", err=True)
    for unread in found.unread:
        echo(f"not read: {unread}", err=True)
    if found.wrong or found.unread:
        raise typer.Exit(1)
