"""Which layer of the configuration decided about an input."""

from __future__ import annotations

from nightmill.config.layers import LAYERS, PIPELINE
from nightmill.model.campaign import Campaign
from nightmill.model.pipeline import Source


def origin_of(campaign: Campaign, stage: str, role: str) -> str:
    """Return the configuration layer that decided last about an input, as ``campaign (night1.yaml:12)``."""
    prefix = f"pipeline.stages.{stage}.inputs.{role}"
    declared = campaign.pipeline.stage(stage).inputs[role]
    of_raw = declared.source == Source() and not declared.lookup
    deciding = [
        (key, layer)
        for key, layer in campaign.origins.items()
        if key == prefix or key.startswith(f"{prefix}.") or (of_raw and key == "where")
    ]
    deciding.reverse()  # of one layer, what was written last: the lookup comes after the source
    if not deciding:
        return PIPELINE
    _key, layer = max(deciding, key=lambda each: (LAYERS.index(each[1].name), each[0] != "where"))
    return str(layer)
