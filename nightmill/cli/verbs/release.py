"""``nightmill release``: let jobs of a campaign go on that wait for a person."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from nightmill.cli.shape import CampaignName, OfStage, SiteFolder, UnitNames, WhereUnit, Why

EXAMPLES: Final = ('nightmill release first --where "night == 20260110" --why "looked at it"',)


def release(
    campaign: CampaignName,
    units: UnitNames = None,
    stage: OfStage = "",
    where: WhereUnit = "",
    why: Why = "",
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Release jobs of a campaign that wait for a person: those that fulfil all that is given.

    The campaign goes on with them.
    """
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.steering import show_held
    from nightmill.operations.conductor import conductor_of
    from nightmill.operations.holding import Which
    from nightmill.operations.holding import release as release_jobs

    which = Which(tuple(units or ()), stage, where)
    with open_without_types(site) as opened:
        released = release_jobs(opened, campaign, which, why=why, conductor=conductor_of(opened))
        show_held(released, "released", as_json=as_json)
