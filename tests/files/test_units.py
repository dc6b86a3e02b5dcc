from __future__ import annotations

import pytest
from astropy import units
from hypothesis import given
from hypothesis import strategies as st

from nightmill.files.units import unit_converter


@pytest.mark.parametrize(
    ("value", "given", "wanted", "found"),
    [
        (4.6, "Angstrom", "nm", 0.46),
        (6563.0, "Angstrom", "m", 6.563e-07),
        (30, "s", "min", 0.5),
        (20, "s", "min", 1 / 3),
        (1e-3, "km", "m", 1.0),
        (0.1, "deg", "arcsec", 360.0),
        (1.8, "arcsec", "deg", 0.0005),
        (1.1, "hourangle", "deg", 16.5),
        (-273.1, "deg_C", "K", 0.05),
        (273.25, "K", "deg_C", 0.1),
        (2.5, "mag", "dex", -1.0),
        (1, "eV", "J", 1.602176634e-19),
        (0, "s", "h", 0.0),
    ],
)
def test_a_conversion_gives_the_number_that_a_person_expects(
    value: float, given: str, wanted: str, found: float
) -> None:
    assert unit_converter(given, wanted)(value) == found


@pytest.mark.parametrize(
    ("given", "wanted", "message"),
    [
        ("Angstrom", "s", "'Angstrom' cannot become 's'"),
        ("Jy", "mag(AB)", "logarithms are not converted"),
        ("mag(AB)", "mag(AB)", "logarithms are not converted"),
        ("parsecs", "m", "parsecs"),
    ],
)
def test_units_that_cannot_be_converted(given: str, wanted: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        unit_converter(given, wanted)


def test_a_result_that_no_float_holds() -> None:
    with pytest.raises(ValueError, match=r"1e\+308 km is too large in m"):
        unit_converter("km", "m")(1e308)


@pytest.mark.parametrize(("one", "other"), [("Angstrom", "nm"), ("deg", "rad"), ("h", "s"), ("deg_C", "K")])
@given(value=st.floats(-1e6, 1e6))
def test_it_is_that_of_astropy_to_the_last_digits(one: str, other: str, value: float) -> None:
    expected = units.Unit(one).to(units.Unit(other), value, equivalencies=units.temperature())
    assert unit_converter(one, other)(value) == pytest.approx(expected, rel=1e-14, abs=1e-12)
