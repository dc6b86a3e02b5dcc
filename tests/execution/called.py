"""A function that a step calls."""

from __future__ import annotations

import json
from pathlib import Path


def write(target: str, **given: object) -> None:
    """Write what it was given."""
    Path(target).write_text(json.dumps(given))
