"""What values may be: limits that several checks share."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from nightmill.model.base import Frozen

Value = str | int | float | bool


def check_ends(least: float | None, most: float | None) -> None:
    """Refuse limits of which no value is within.

    Raises
    ------
    ValueError
        As validators raise it, with what follows "should be".
    """
    if least is not None and most is not None and least > most:
        raise ValueError(f"one whose min is not above its max ({least:g} is above {most:g})")


def percent(share: float) -> str:
    """Write a share, however small: what is more than none never reads as none."""
    return f"{share * 100:.3g}%"


class Limits(Frozen):
    """What a value may be; at least one of these is given."""

    min: float | None = None
    """The least that a number may be."""
    max: float | None = None
    """The greatest that a number may be."""
    one_of: tuple[str | int | float | bool, ...] = ()
    """The only values that it may be."""

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.min is None and self.max is None and not self.one_of:
            raise ValueError("limited by min, max or one_of")
        check_ends(self.min, self.max)
        return self

    def wrong_with(self, value: Value) -> str:
        """Say what is wrong with a value, as what follows it in a sentence; empty where nothing is."""
        if self.one_of and not any(
            value == each and (type(value) is bool) == (type(each) is bool) for each in self.one_of
        ):
            return f"not one of {', '.join(map(str, self.one_of))}"
        if self.min is None and self.max is None:
            return ""
        if isinstance(value, str | bool):
            return "not a number"
        if self.min is not None and not value >= self.min:
            return f"less than {self.min:g}"
        if self.max is not None and not value <= self.max:
            return f"more than {self.max:g}"
        return ""
