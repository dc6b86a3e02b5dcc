"""Which engine a campaign names: whether its last flight check passed, and another one for jobs that run again."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from nightmill.backbone.audit import last_of_each
from nightmill.backbone.schema import CampaignRow
from nightmill.config.engines import lacking_accelerators
from nightmill.config.layers import COMMAND_LINE
from nightmill.errors import RequestRefused, UnknownName
from nightmill.model.base import canonical_json
from nightmill.model.campaign import Campaign, Layer
from nightmill.model.engine import EngineSetting
from nightmill.operations.site import Site

FLIGHT: Final = "doctor --engine"
"""The act that notes how an engine's flight check ended."""


def require(site: Site, campaign: Campaign) -> None:
    """Make sure that no engine that a campaign names has failed its last flight check.

    Raises
    ------
    RequestRefused
        Where one has, and what the site says of it has not changed since; with what failed.
    """
    named = {campaign.execution.engine_of(stage.name) for stage in campaign.pipeline.stages} - {""}
    if not named:
        return
    with site.database.reading() as session:
        last = last_of_each(session, FLIGHT)
    for name in sorted(named & last.keys() & site.config.engines.keys()):
        detail, at = last[name].detail, last[name].at
        if detail["wrong"] and detail["options"] == digest_of(site.config.engines[name]):
            more = f", and {len(detail['wrong']) - 1} more" if len(detail["wrong"]) > 1 else ""
            raise RequestRefused(
                f"engine {name!r} failed its flight check of {at:%Y-%m-%d %H:%M} UTC: {detail['wrong'][0]}{more}",
                remedy=f"mend that, and fly again: 'nightmill doctor --engine {name}'; or name another engine",
            )


def digest_of(setting: EngineSetting) -> str:
    """Return a digest of what a site says of an engine: how its check ended counts as long as that stays."""
    said = [setting.kind, setting.options.model_dump(mode="json")]
    return sha256(canonical_json(said).encode()).hexdigest()


def with_engine(site: Site, campaign: Campaign, engine: str, stage: str = "") -> Campaign:
    """Return a campaign whose jobs, or those of one stage, are carried out by another engine of the site.

    Raises
    ------
    UnknownName
        Where the site has no such engine; with a guess.
    RequestRefused
        Where a stage has one of its own and is not the one that is meant, or asks for what the engine does not have.
    """
    execution, known = campaign.execution, site.config.engines
    if engine not in known:
        raise UnknownName("engine", engine, list(known), remedy="'engines' of nightmill.yaml names them")
    for own, other in execution.engines.items():
        if not stage and other != engine:
            layer = campaign.origins.get(f"execution.engines.{own}") or "the campaign"
            raise RequestRefused(
                f"stage {own!r} is given two engines: {other!r} by execution.engines.{own}, {layer}, and {engine!r} by"
                " --engine",
                remedy=f"give this stage alone another, with '--stage {own}', or name the same",
            )
    update = {"engines": {**execution.engines, stage: engine}} if stage else {"engine": engine}
    key = f"execution.engines.{stage}" if stage else "execution.engine"
    changed = campaign.model_copy(
        update={
            "execution": execution.model_copy(update=update),
            "origins": {**campaign.origins, key: Layer(name=COMMAND_LINE)},
        }
    )
    if lacking := list(lacking_accelerators(changed, known)):
        raise RequestRefused(lacking[0])
    return changed


def give(row: CampaignRow, campaign: Campaign) -> None:
    """Have a campaign on record be carried out as another definition of it says; no more than that changes."""
    written = campaign.model_dump(mode="json")
    row.definition = {**row.definition, "execution": written["execution"], "origins": written["origins"]}
