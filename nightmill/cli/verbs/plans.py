"""``nightmill plans``: what ``nightmill plan --save`` kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nightmill.cli.render.output import echo, print_json, print_table
from nightmill.cli.shape import SiteFolder, examples, group

if TYPE_CHECKING:
    from nightmill.cli.documents.plans import SavedPlan
    from nightmill.operations.saved_plans import KeptPlan

app = group(help="List the plans that were saved, and remove them.")


@app.command("list", epilog=examples("nightmill plans list"))
def list_(
    site: SiteFolder = None, as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False
) -> None:
    """List the plans that were saved, the newest first."""
    from nightmill.cli.opening import open_without_types
    from nightmill.operations.saved_plans import kept, shown

    with open_without_types(site) as opened:
        found = kept(opened)
    if as_json:
        print_json([_document(each) for each in found])
        return
    print_table(
        ("digest", "campaign", "number", "saved", "by", "submitted"),
        [
            (shown(saved.digest), saved.campaign, saved.number, saved.at, saved.who, "yes" if each.submitted else "no")
            for each in found
            for saved in (each.saved,)
        ],
    )


@app.command(epilog=examples("nightmill plans remove 1f0c22a94be1 --why 'the night was bad'"))
def remove(
    digest: Annotated[str, typer.Argument(metavar="DIGEST", help="Of the plan, or the beginning of that.")],
    why: Annotated[str, typer.Option(metavar="TEXT", help="Why, in words; kept with the act.")] = "",
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was removed as JSON.")] = False,
) -> None:
    """Remove a plan that was saved: nobody can submit it any more.

    A campaign that was submitted of it stays as it is. Where none was, its number may go to another campaign.
    """
    from nightmill.cli.opening import open_without_types
    from nightmill.operations.saved_plans import remove as remove_plan
    from nightmill.operations.saved_plans import shown

    with open_without_types(site) as opened:
        removed = remove_plan(opened, digest, why=why)
    if as_json:
        print_json(_document(removed))
    else:
        saved = removed.saved
        echo(f"plan {shown(saved.digest)} of campaign {saved.campaign} removed")


def _document(kept: KeptPlan) -> SavedPlan:
    from nightmill.cli.documents import told
    from nightmill.cli.documents.plans import SavedPlan

    return told(SavedPlan, kept.saved, submitted=kept.submitted, size_bytes=kept.size_bytes)
