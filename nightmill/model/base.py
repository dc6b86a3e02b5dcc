"""What all frozen nouns share."""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """An immutable, strictly keyed value: unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


def canonical_json(value: object) -> str:
    """Write plain JSON in the one form that digests are made of: sorted keys, no blanks, nothing rounded."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
