"""What all verbs share of their outer shape: groups, the help's examples, and the site option."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand

from nightmill.cli.again import Verb
from nightmill.cli.completing import campaigns
from nightmill.errors import RequestRefused

SiteFolder = Annotated[
    Path | None, typer.Option("--site", metavar="DIR", help="Folder of the site; by default the one that you are in.")
]

Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value; may be given again.")
]
Overrides = Annotated[
    list[Path] | None,
    typer.Option("--override", metavar="FILE", help="Change what this YAML file says; may be given again."),
]

EngineName = Annotated[
    str, typer.Option("--engine", metavar="NAME", help="Which engine of the site carries out its jobs, of every stage.")
]

Exclude = Annotated[
    list[str] | None,
    typer.Option(metavar="RULE", help="Files to leave out: an expression, or FILE NAME; may be given again."),
]
Edited = Annotated[bool, typer.Option("--edited", help="Run what is not done with the pipeline's folder as it is now.")]
AsSubmitted = Annotated[bool, typer.Option("--as-submitted", help="Go on with the folder as it was submitted.")]
Diff = Annotated[bool, typer.Option("--diff", help="Only show how the folder was edited.")]

_JOB: Final = re.compile(r"(?P<campaign>[^/]+)/(?P<stage>[^/]+)/(?P<unit>[^/]+)(/a(?P<number>\d+))?")
"""How a job is named, or an attempt of it."""


def job_of(name: str) -> tuple[tuple[str, str, str] | None, int | None]:
    """Return campaign, stage and unit where a name is that of a job, and the number where it is that of an attempt."""
    if (named := _JOB.fullmatch(name)) is None:
        return None, None
    job = (named["campaign"], named["stage"], named["unit"])
    return job, int(named["number"]) if named["number"] else None


CampaignName = Annotated[
    str, typer.Argument(metavar="CAMPAIGN", help="Name of the campaign.", autocompletion=campaigns)
]
UnitNames = Annotated[
    list[str] | None, typer.Argument(metavar="UNIT", help="Names of units, or of jobs as STAGE/UNIT.")
]
OfStage = Annotated[str, typer.Option(metavar="STAGE", help="Of this stage alone.")]
WhereUnit = Annotated[str, typer.Option(metavar="EXPR", help="Whose unit fulfils this expression.")]
Why = Annotated[str, typer.Option(metavar="TEXT", help="Why, in words; kept with the act.")]

HELP_COLUMNS: Final = 100
"""The widest that help is written."""


class _Verbs(typer.Typer):
    """Makes verbs that let acts know how they were typed."""

    def command(self, name: str | None = None, *, cls: type[TyperCommand] | None = None, **settings: Any) -> Any:
        return super().command(name, cls=cls or Verb, **settings)


def group(*, add_completion: bool = False, **settings: Any) -> typer.Typer:
    """Return a Typer for verbs, whose help is plain text: it can be piped, and needs no width of its own."""
    return _Verbs(
        no_args_is_help=True,
        add_completion=add_completion,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": HELP_COLUMNS},
        **settings,
    )


def examples(*lines: str) -> str:
    """Write command lines as the end of a verb's help."""
    if not lines:
        return ""
    return "\n".join(["\b", "Examples:" if len(lines) > 1 else "Example:", *(f"  {line}" for line in lines)])


def time_of(option: str, text: str) -> datetime:
    """Read a time that was given, as UTC; one without a zone is that already.

    Raises
    ------
    RequestRefused
        Where it is not a time.
    """
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):  # one that is no year in UTC
        raise RequestRefused(
            f"{option} {text!r} is not a time", remedy="write 2026-01-10 or 2026-01-10T03:12:45"
        ) from None
