"""``nightmill hold``: hold jobs of a campaign until somebody releases them."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from nightmill.cli.shape import CampaignName, OfStage, SiteFolder, UnitNames, WhereUnit, Why

EXAMPLES: Final = ('nightmill hold first --where "night == 20260110" --why "clouds: look at it first"',)


def hold(
    campaign: CampaignName,
    units: UnitNames = None,
    stage: OfStage = "",
    where: WhereUnit = "",
    why: Why = "",
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Hold jobs of a campaign that are planned: those that fulfil all that is given.

    None of them begins until somebody releases it. One that runs already goes on to its end.
    """
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.steering import show_held
    from nightmill.operations.holding import Which
    from nightmill.operations.holding import hold as hold_jobs

    which = Which(tuple(units or ()), stage, where)
    with open_without_types(site) as opened:
        show_held(hold_jobs(opened, campaign, which, why=why), "held", as_json=as_json)
