"""What one job works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from nightmill.model.dimensions import DataId
from nightmill.model.found_file import FoundFile


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit and the files that make it.

    Parameters
    ----------
    name
        The canonical string of its ``per`` dimensions.
    data_id
        The ``per`` dimensions, and beside them every dimension on which all its files agree: what inputs are chosen by.
    begins_at, ends_at
        The span of its files, UTC; None where none of them tells.
    files
        By name.
    """

    name: str
    data_id: DataId
    begins_at: datetime | None
    ends_at: datetime | None
    files: tuple[FoundFile, ...]

    def fixed(self, per: Sequence[str], *, takes_one: bool) -> DataId:
        """Return the dimensions that the declaration of its stage fixes: those of its products.

        They are the same for all units of the stage, whatever files each happens to have.
        """
        return self.data_id if takes_one else {dimension: self.data_id[dimension] for dimension in per}

    @property
    def middle(self) -> float | None:
        """The middle of its span, in seconds since the epoch."""
        return middle(self.begins_at, self.ends_at)

    @property
    def time(self) -> float:
        """The same for a lookup that declares that it needs it.

        Raises
        ------
        ValueError
            Where none of its files tells.
        """
        if (when := self.middle) is None:
            raise ValueError(f"the files of unit {self.name} have no time; declare Need.TIME")
        return when


def middle(begins_at: datetime | None, ends_at: datetime | None) -> float | None:
    """Return the middle of a span in seconds since the epoch; of a span with one end, that end."""
    ends = [time.timestamp() for time in (begins_at, ends_at) if time is not None]
    return sum(ends) / len(ends) if ends else None
