"""What one job works on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from nightmill.model.dimensions import DataId, KeyValue
from nightmill.model.found_file import FoundFile


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit and the files that make it.

    Parameters
    ----------
    name
        The canonical string of its ``per`` keys.
    data_id
        The ``per`` keys, and beside them every dimension on which all its files agree.
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

    def values(self, key: str) -> tuple[KeyValue, ...]:
        """Return its values of a key: what inputs are chosen by.

        Returns
        -------
        tuple
            One value where its data ID or all of its files have that; none where no file has one. Several mean that
            its files differ in the key, and ``""`` among them that some have none.
        """
        if (own := self.data_id.get(key)) is not None:
            return (own,)
        found = dict.fromkeys([file.get(key) for file in self.files])
        if len(found) == 1 and None in found:
            return ()
        return tuple(["" if value is None else value for value in found])

    def fixed(self, per: Sequence[str], naming: Collection[str], *, takes_one: bool) -> DataId:
        """Return the keys that the declaration of its stage fixes: those of its products.

        They are the same for all units of the stage, whatever files each happens to have.

        Parameters
        ----------
        naming
            Further keys, which the one file of a unit gives to the names of products.
        """
        if not takes_one:
            return {key: self.data_id[key] for key in per}
        more = {key: values[0] for key in naming if key not in self.data_id and (values := self.values(key))}
        return {**self.data_id, **more} if more else self.data_id

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
