"""An audit: catalogue, journals, stores, scratch and processes compared with each other; nothing is mended.

It streams, asks the database for a thousand things at a time, and may go on while the site works: what it finds it
looks at a second time, after it looked at who is at work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from nightmill.operations.audit import journals, processes, rows, stores
from nightmill.operations.audit.contradiction import Contradiction, Ground, Kind

__all__ = ["PARTS", "Contradiction", "Ground", "Kind"]

PARTS: Final[Mapping[str, Callable[[Ground], Iterator[Contradiction]]]] = {
    "rows of the catalogue": rows.find,
    "processes and scratch": processes.find,
    "journals": journals.find,
    "stores": stores.find,
}
"""What is compared, by what a person calls it."""
