"""What campaigns rely on: the calibrations of those on record, and of those that might be submitted."""

from __future__ import annotations

from dataclasses import dataclass

from nightmill.backbone.work.campaigns import campaign_named
from nightmill.backbone.work.left_out import left_out_units
from nightmill.model.campaign import Campaign
from nightmill.operations.preview import preview
from nightmill.operations.site import Site
from nightmill.planning.plan import plan_stage
from nightmill.planning.reliance import OLDER_DAYS, Reliance, Role, Wanted, tell_sealed


@dataclass(frozen=True)
class CalibrationReport:
    """What a campaign relies on.

    Parameters
    ----------
    on_record
        Whether it is of the jobs that are sealed, and of what would be planned now otherwise.
    older_days
        How far from its unit in time a calibration counts as too old.
    roles
        Each calibration input, in the order of the stages.
    wanted
        What to ask for, the most wanted first.
    later
        The stages whose units are not known yet.
    problems
        Why a plan that was made for it could not be carried out.
    """

    campaign: str
    on_record: bool
    older_days: float
    roles: tuple[Role, ...]
    wanted: tuple[Wanted, ...]
    later: tuple[str, ...]
    problems: tuple[str, ...]


def would_rely(site: Site, campaign: Campaign, *, older_days: float = OLDER_DAYS) -> CalibrationReport:
    """Tell what a campaign would rely on, if it were submitted now; writes nothing.

    Raises
    ------
    RequestRefused
        Where the folder of its pipeline cannot be packed.
    """
    reliance = Reliance(site.config.file_types, older_days=older_days)
    plan = preview(site, campaign, reliance=reliance)
    later = tuple([stage.stage.name for stage in plan.stages if stage.known_after])
    return _report(campaign, False, reliance, later, plan.problems)


def relies(site: Site, name: str, *, older_days: float = OLDER_DAYS) -> CalibrationReport:
    """Tell what the sealed jobs of a campaign rely on, and what the units lack that its plans left out.

    What these lack is looked up anew: what has come since is not asked for.

    Raises
    ------
    UnknownName
        Where there is no such campaign; with a guess.
    """
    with site.database.reading() as session:
        row = campaign_named(session, name)
        campaign = Campaign.model_validate(row.definition)
        units: dict[str, set[str]] = {}
        for each in left_out_units(session, [row.id]).get(row.id, ()):
            units.setdefault(each.stage, set()).add(each.unit)
        reliance = Reliance(site.config.file_types, older_days=older_days, units=units)
        planned = tell_sealed(session, row.id, reliance) | units.keys()
        for stage in units:
            plan_stage(session, campaign, stage, site.config, row.id, reliance=reliance)
    later = tuple([stage.name for stage in campaign.pipeline.stages if stage.name not in planned])
    return _report(campaign, True, reliance, later, ())


def _report(
    campaign: Campaign, on_record: bool, reliance: Reliance, later: tuple[str, ...], problems: tuple[str, ...]
) -> CalibrationReport:
    roles, wanted = tuple(reliance.roles), tuple(reliance.wanted)
    return CalibrationReport(campaign.name, on_record, reliance.older_days, roles, wanted, later, problems)
