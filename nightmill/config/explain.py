"""Where a value of a campaign comes from: what each layer says of it, the lowest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from nightmill.config.campaign import Written, load_campaign
from nightmill.config.changes import chain, laid
from nightmill.config.document import Key, Plain, dotted, leaves
from nightmill.config.layers import Tree, parts_of
from nightmill.config.pipeline import load_pipeline_tree
from nightmill.errors import RequestRefused, guess
from nightmill.model.campaign import Campaign

DEFAULT: Final = "default"
"""What is said where no layer says anything."""
_MISSING: Final = object()


@dataclass(frozen=True)
class Said:
    """What a layer says of a key.

    Parameters
    ----------
    key
        As ``--set`` writes it.
    layer
        With file and line, where it is a file.
    value
        As plain data.
    counts
        Whether it is the value that the campaign has.
    """

    key: str
    layer: str
    value: Plain
    counts: bool


def explain(written: Written, name: str) -> list[Said]:
    """Tell what each layer says of a key and of what is below it, the lowest layer first.

    Parameters
    ----------
    name
        As ``--set`` writes it: ``parameters.clip``, ``pipeline.stages.science.inputs.bias``.

    Raises
    ------
    RequestRefused
        Where the campaign has no such key.
    ConfigError, ConfigErrors
        As :func:`~nightmill.config.campaign.load_campaign`.
    """
    campaign = load_campaign(
        written.path,
        written.settings,
        written.exclude,
        overrides=written.overrides,
        defaults=written.defaults,
        engine=written.engine,
    )
    whole = plain_of(campaign.model_dump(mode="json", exclude={"origins", "name", "variants"}))
    parts = parts_of(name)
    value = _at(whole, parts)
    if not parts or value is _MISSING:
        there = next((n for n in range(len(parts), 0, -1) if isinstance(_at(whole, parts[:n]), dict)), 0)
        names = list(_at(whole, parts[:there]))
        near = guess(parts[there], names) if parts else ""
        near = near or f" (there is {', '.join(names)})"
        raise RequestRefused(f"the campaign has no key {name!r}{near}", remedy="write it as --set does")
    changes = written.changes()
    pipeline = load_pipeline_tree(written.path.parent / str(laid(changes).data["pipeline"]))
    layers = chain(written.defaults, pipeline, changes)
    return [each for key, now in leaves(value, parts) for each in _said(key, now, layers, campaign)]


def _said(key: Key, now: Plain, layers: list[Tree], campaign: Campaign) -> list[Said]:
    """Return what the layers say of one value; what a calibration set was replaced by is said by the layer that did."""
    found = []
    for tree in layers:
        value = _at(tree.data, key)
        place = next((tree.places[key[:n]] for n in range(len(key), 0, -1) if key[:n] in tree.places), None)
        if value is not _MISSING and place is not None:
            found.append(Said(dotted(key), str(place.layer), value, counts=False))
    layer = campaign.origins.get(dotted(key))
    if found and found[-1].value == now:
        found.pop()
    return [*found, Said(dotted(key), str(layer) if layer is not None else DEFAULT, now, counts=True)]


def _at(data: Any, key: Key) -> Any:
    for part in key:
        if not isinstance(data, dict) or part not in data:
            return _MISSING
        data = data[part]
    return data


def plain_of(campaign: dict[str, Any]) -> dict[str, Any]:
    """Return a campaign with stages and steps by their names, as layers have them."""
    stages = campaign["pipeline"]["stages"]
    by_name = {
        stage.pop("name"): {**stage, "steps": {step.pop("name"): step for step in stage["steps"]}} for stage in stages
    }
    return {**campaign, "pipeline": {**campaign["pipeline"], "stages": by_name}}
