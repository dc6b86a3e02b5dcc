"""``nightmill acts``: who did what, when and why, and how to do it again."""

from __future__ import annotations

import shlex
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nightmill.cli.completing import campaigns
from nightmill.cli.shape import SiteFolder, time_of

if TYPE_CHECKING:
    from nightmill.backbone.schema import AuditRow
    from nightmill.cli.documents.acts import Act
    from nightmill.operations.site import Site

EXAMPLES: Final = (
    "nightmill acts --campaign first",
    "nightmill acts --verb exclude --since 2026-01-10",
    "nightmill acts --figure --since 2026-01-01 --until 2026-02-01",
)


def acts(
    campaign: Annotated[
        str, typer.Option(metavar="NAME", help="Only those on this campaign.", autocompletion=campaigns)
    ] = "",
    verb: Annotated[str, typer.Option(metavar="VERB", help="Only of this verb, as 'rerun' or 'exclude add'.")] = "",
    who: Annotated[str, typer.Option(metavar="NAME", help="Only those of this operator.")] = "",
    since: Annotated[str, typer.Option(metavar="TIME", help="Only from then on, UTC.")] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="Only before then, UTC.")] = "",
    figure: Annotated[
        bool, typer.Option("--figure", help="Print interventions per 1,000 jobs instead, by campaign.")
    ] = False,
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
) -> None:
    """List what operators did: when, who, what and why, and the command that does it again.

    An intervention is an act on a campaign after its first submit; --figure counts them against the campaign's jobs
    that have a result.
    """
    from nightmill.cli.opening import open_without_types
    from nightmill.errors import RequestRefused

    if figure and (verb or who):
        raise RequestRefused("--figure counts the acts of all", remedy="leave --verb and --who away")
    begin, end = time_of("--since", since) if since else None, time_of("--until", until) if until else None
    with open_without_types(site) as opened:
        if figure:
            _show_figure(opened, campaign, begin, end, as_json=as_json)
        else:
            _show_acts(opened, campaign, verb, who, begin, end, as_json=as_json)


def _show_acts(
    site: Site, campaign: str, verb: str, who: str, since: datetime | None, until: datetime | None, *, as_json: bool
) -> None:
    from nightmill.backbone.audit import acts
    from nightmill.cli.render.output import print_json_rows, print_table

    with site.database.reading() as session:
        rows = acts(session, campaign=campaign, verb=verb, who=who, since=since, until=until)
        found = (_told(row) for row in rows)
        if as_json:
            print_json_rows(found)
            return
        print_table(
            ("at", "who", "verb", "subject", "why", "again"),
            ((act.at, act.who, act.verb, act.subject, act.why, shlex.join(act.command or ())) for act in found),
        )


def _show_figure(site: Site, campaign: str, since: datetime | None, until: datetime | None, *, as_json: bool) -> None:
    from nightmill.backbone.audit import Interventions, interventions
    from nightmill.cli.documents import acts, told
    from nightmill.cli.render.output import print_json, print_table

    with site.database.reading() as session:
        found = interventions(session, campaign=campaign, since=since, until=until)
    if not campaign:
        found.append(Interventions("", sum(each.interventions for each in found), sum(each.jobs for each in found)))
    if as_json:
        print_json([told(acts.Interventions, each, campaign=each.campaign or None) for each in found])
        return
    print_table(
        ("campaign", "interventions", "jobs", "per 1,000 jobs"),
        (
            (
                each.campaign or "all",
                each.interventions,
                each.jobs,
                "" if each.per_1000_jobs is None else f"{each.per_1000_jobs:.2f}",
            )
            for each in found
        ),
    )


def _told(row: AuditRow) -> Act:
    from nightmill.cli.documents import told
    from nightmill.cli.documents.acts import Act

    kept = dict(row.detail)
    return told(Act, row, command=kept.pop("command", None), detail=kept)
