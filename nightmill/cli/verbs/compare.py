"""``nightmill compare``: in what two things differ that ran."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from nightmill.cli.completing import stages
from nightmill.cli.shape import SiteFolder, job_of

EXAMPLES: Final = (
    "nightmill compare first/clean/exposure=2,detector=2 second/clean/exposure=2,detector=2",
    "nightmill compare 3f2ab4c5d6e7 9c81d0a2b3c4",
)
_WHAT: Final = "A job or an attempt, a file, or the first digits of the digest of a software stack."

One = Annotated[str, typer.Argument(metavar="BEFORE", help=f"The earlier. {_WHAT}", autocompletion=stages)]
Other = Annotated[str, typer.Argument(metavar="AFTER", help="The later, named likewise.", autocompletion=stages)]


def compare(
    before: One,
    after: Other,
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Tell in what the software differs that two jobs ran with, that made two files, or that two digests stand for.

    Section by section: the pipeline's folder, the Python and its packages, programs, libraries, image, environment
    modules, and what the host is. Exit code 0 whether or not something differs.
    """
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.software import show_comparison
    from nightmill.operations.software import compare_software, side_of

    with open_without_types(site) as opened, opened.database.reading() as session:
        earlier, later = (side_of(session, name, *job_of(name)) for name in (before, after))
    show_comparison(earlier, later, compare_software(earlier, later), as_json=as_json)
