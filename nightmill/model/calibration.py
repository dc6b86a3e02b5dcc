"""How far a calibration can be trusted."""

from __future__ import annotations

from enum import StrEnum


class Maturity(StrEnum):
    """How far a calibration is trusted."""

    DRAFT = "draft"
    CERTIFIED = "certified"
    WITHDRAWN = "withdrawn"
