"""Names that programs give: read back as they were written, in one way or not at all."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightmill.errors import BadName
from nightmill.files.naming import Template
from nightmill.files.own_names import NamePattern, fields_in
from nightmill.model.dimensions import KeyType

KINDS: Final[dict[str, KeyType]] = {
    "exposure": "int",
    "dit": "float",
    "tile": "str",
    "band": "str",
    "good": "bool",
    "at": "time",
}


@pytest.mark.req("X05")
@pytest.mark.parametrize(
    ("pattern", "name", "values"),
    [
        ("im{exposure:06d}.head", "im000012.head", {"exposure": 12}),
        ("im{exposure:06d}.head", "im1234567.head", {"exposure": 1234567}),
        ("im{exposure:06d}.head", "im12.head", None),
        ("im{exposure:06d}.head", "im000012.head~", None),
        ("im{exposure:06d}.head", "xim000012.head", None),
        ("im{exposure}.head", "im-7.head", {"exposure": -7}),
        ("im{exposure}.head", "im007.head", None),
        ("im{exposure}.head", "im1_0.head", None),
        ("im{exposure}.head", "im\u0661.head", None),
        ("im{exposure}.head", f"im{'1' * 200}.head", None),
        ("{dit:.1f}.fits", "2.5.fits", {"dit": 2.5}),
        ("{dit}.fits", "nan.fits", None),
        ("{dit}.fits", "1e999.fits", None),
        ("{dit}.fits", "10.fits", None),
        ("{tile}_{band}.fits", "t07_r.fits", {"tile": "t07", "band": "r"}),
        ("{tile}_{band}.fits", "t_07_r.fits", {"tile": "t", "band": "07_r"}),
        ("{tile}.head", "HAWKI.2013-01-08.head", {"tile": "HAWKI.2013-01-08"}),
        ("{tile}.head", ".head", None),
        ("{tile}.head", "..head", None),
        ("{tile}.head", "a/b.head", None),
        ("{tile}.head", "a\n.head", None),
        ("{tile}.head", "a\udcff.head", None),
        ("a[{tile}]*.x", "a[t]*.x", {"tile": "t"}),
    ],
)
def test_a_name_is_read_back_strictly(pattern: str, name: str, values: dict[str, object] | None) -> None:
    assert NamePattern(pattern, KINDS).match(name) == values


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("{exposure}{tile}.x", "nothing stands behind {exposure} that tells where it ends"),
        ("{exposure}0{tile}.x", "'0' behind {exposure} may be a part of the number"),
        ("{dit}.{tile}.x", "'.' behind {dit} may be a part of the number"),
        ("{tile}_{tile}", "it has {tile} twice"),
        ("{good}", "good is of type bool, and a name tells texts and numbers"),
        ("{at}", "at is of type time, and a name tells texts and numbers"),
        ("{exposure:x}", "what 'x' writes cannot be read back"),
        ("{exposure:_}", "what '_' writes cannot be read back"),
        ("{tile:>8}", "what '>8' writes cannot be read back"),
        ("{exposure:09999d}", "cannot be read back"),
        ("{tile!r}", "the field 'tile' is not a plain name"),
        ("{tile.x}", "the field 'tile.x' is not a plain name"),
        ("{}", "the field '' is not a plain name"),
        ("{tile", "expected '}' before end of string"),
    ],
)
def test_a_pattern_that_cannot_be_read_back(pattern: str, why: str) -> None:
    with pytest.raises(BadName) as refused:
        NamePattern(pattern, KINDS)
    assert why in str(refused.value)
    assert str(refused.value).endswith("write fields as {exposure:06d}")


@given(st.integers(-(10**12), 10**12), st.from_regex(r"[A-Za-z0-9][A-Za-z0-9+-]{0,20}", fullmatch=True))
def test_what_a_pattern_writes_it_reads(exposure: int, tile: str) -> None:
    pattern = "x{tile}_{exposure:05d}.head"
    values = {"exposure": exposure, "tile": tile}
    assert NamePattern(pattern, KINDS).match(pattern.format_map(values)) == values


def test_a_glob_has_no_fields() -> None:
    assert fields_in("*.[fh]its") == ()
    assert fields_in("im{exposure:06d}_{tile}.head") == ("exposure", "tile")


def test_a_long_name_takes_no_time() -> None:
    assert NamePattern("{tile}_{band}_{exposure}.x", KINDS).match("_" * 100_000 + "a_" * 100_000) is None


def test_a_template_stays_open_where_it_is_told() -> None:
    template = Template("{tile}_{exposure:06d}_{band}.fits")
    opened = template.open({"band": "r"}, ["tile", "exposure"])
    assert opened == "{tile}_{exposure:06d}_r.fits"
    assert Template(opened, opened=True).render({"tile": "t7", "exposure": 12}) == "t7_000012_r.fits"
    stem = Template("{stem}_{exposure}.fits").open({"stem": "HAWKI.2013-01-08T00:00:00.000"}, ["exposure"])
    assert Template(stem, opened=True).render({"exposure": 1}) == "HAWKI.2013-01-08T00:00:00.000_1.fits"
    with pytest.raises(BadName, match=r"band is '\.\./x', which is not fit"):
        template.open({"band": "../x"}, ["tile", "exposure"])
    with pytest.raises(BadName, match="tile is 'a:b', which is not fit for a file name"):
        Template(stem.replace("exposure", "tile"), opened=True).render({"tile": "a:b"})
