"""Plans as they are made: of a stage, and of a whole campaign."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from nightmill.backbone.work.left_out import LeftOut
from nightmill.errors import PlanRefused
from nightmill.model.campaign import Campaign
from nightmill.planning.exclusions import Excluded
from nightmill.planning.sealed import StageView
from nightmill.planning.shipping import ToShip


@dataclass(frozen=True)
class StagePlan(StageView):
    """The plan of one stage as it was just made: of one with problems, the jobs that have none.

    Parameters
    ----------
    position
        Of the stage in its pipeline, from 0.
    problems
        What is wrong, one sentence each; a plan that has any cannot be sealed.
    waiting
        What units lack that a stage before this one did not make (yet), one sentence each. They are left out and join
        a later plan.
    left_out
        The units that lack what an input does without: skipped or held.
    lacking
        The same, one sentence for those that are alike.
    incomplete
        Whether it leaves units out, or a stage does that it takes from: what it has not may yet come.
    projected
        Whether files that do not exist yet stand in for inputs.
    known_after
        The stage that must end before the units of this one are known: it has no jobs until then. Empty where they are
        known.
    excluded
        What is left out of each input, by the rule that does.
    exclusions
        The numbers of the exclusions in the catalogue that were heeded.
    variants
        Units that are otherwise than the rest, with their number.
    """

    position: int
    problems: tuple[str, ...]
    waiting: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    lacking: tuple[str, ...]
    incomplete: bool
    projected: bool
    known_after: str
    excluded: tuple[Excluded, ...]
    exclusions: frozenset[int]
    variants: Mapping[str, int]


@dataclass(frozen=True)
class CampaignPlan:
    """The plan of a campaign: its stages in the order in which they can run."""

    campaign: Campaign
    number: int
    stages: tuple[StagePlan, ...]
    problems: tuple[str, ...]
    """Of all stages, one sentence each."""
    as_of: datetime | None = None
    """The time whose catalogue it was made from, whether or not there are copies of its files; None for now."""
    to_ship: tuple[ToShip, ...] = ()
    """What its jobs need and only other sites have: it comes from there before they begin."""

    def require(self) -> None:
        """Make sure that there are no problems.

        Raises
        ------
        PlanRefused
            Where there are; it lists all of them.
        """
        if self.problems:
            then = f"{self.as_of:%Y-%m-%d %H:%M:%S} UTC" if self.as_of is not None else ""
            raise PlanRefused(self.campaign.name, self.problems, as_of=then)
