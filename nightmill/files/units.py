"""Numbers of one unit in another, as a person would work them out: 4.6 Angstrom are 0.46 nm."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Final

_NEAR: Final = Fraction(1, 10**15)
"""How far a factor that was multiplied up as a float is from what it stands for, relative."""
_SHORT: Final = 12
"""Digits that somebody wrote, where a float has 17."""


@lru_cache(maxsize=256)
def unit_converter(given: str, wanted: str) -> Callable[[float], float]:
    """Return the function that turns numbers of one unit to another; temperatures with their zero points.

    Its result is the float nearest to the exact one: what floats cannot hold of the number or of the factor, as 0.1,
    does not come out as noise in the last digits. It raises ValueError where there is no such float.

    Raises
    ------
    ValueError
        Where a unit is not known (to astropy), or a logarithm of one, as mag(AB), or the two do not measure the same.
    """
    from astropy import units  # 0.3 s to import, and most types need none

    pair = units.Unit(given), units.Unit(wanted)
    if not all(isinstance(unit, units.UnitBase) for unit in pair):
        raise ValueError(f"{given!r} cannot become {wanted!r}: logarithms are not converted")
    try:
        convert = pair[0].get_converter(pair[1], equivalencies=units.temperature())
    except units.UnitConversionError as error:
        raise ValueError(f"{given!r} cannot become {wanted!r}: {error}") from error
    zero = _exact(float(convert(0.0)))
    factor = _exact(float(convert(1.0)) - float(zero))

    def converted(value: float) -> float:
        try:
            return float(Fraction(repr(value)) * factor + zero)
        except OverflowError as error:
            raise ValueError(f"{value} {given} is too large in {wanted}") from error

    return converted


def _exact(value: float) -> Fraction:
    """Return the number that a float stands for: a short decimal, the inverse of one, or a ratio of small numbers."""
    decimal = Fraction(f"{value:.{_SHORT}g}")
    inverse = 1 / Fraction(f"{1 / value:.{_SHORT}g}") if decimal else decimal
    ratio = Fraction(value).limit_denominator(100_000)
    near = [each for each in (decimal, inverse, ratio) if abs(each - Fraction(value)) <= abs(Fraction(value)) * _NEAR]
    return near[0] if near else Fraction(repr(value))
