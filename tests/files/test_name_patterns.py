"""Templates read backwards."""

from __future__ import annotations

import string
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightmill.errors import BadMetadata, BadName
from nightmill.files.headers import read_metadata
from nightmill.files.inspection import inspect_file
from nightmill.files.name_patterns import NamePattern, fields_in, name_kinds, pattern_of
from nightmill.files.naming import Template
from nightmill.model.dimensions import KeyType
from nightmill.model.file_type import FileType
from tests.files.frames import fits_bytes

KINDS: Mapping[str, KeyType] = {
    "exposure": "int",
    "night": "int",
    "detector": "int",
    "n": "int",
    "begins_at": "time",
    "seconds": "float",
    "good": "bool",
}
texts = st.text(alphabet=string.ascii_letters + string.digits + "._+-", min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("pattern", "name", "values"),
    [
        ("im{exposure:06d}.head", "im000012.head", {"exposure": 12}),
        ("im{exposure:06d}.head", "im1234567.head", {"exposure": 1234567}),
        ("im{exposure}.head", "im12.head", {"exposure": 12}),
        (
            "HAWKI.{begins_at}.fits",
            "HAWKI.2013-01-08T00:00:00.250.fits",
            {"begins_at": datetime(2013, 1, 8, 0, 0, 0, 250_000, tzinfo=UTC)},
        ),
        ("N{night:08d}S{exposure:04d}.fits", "N20200101S0001.fits", {"night": 20200101, "exposure": 1}),
        ("SUPA{exposure:07d}{detector:01d}.fits", "SUPA01234567.fits", {"exposure": 123456, "detector": 7}),
        ("{band}{exposure:03d}", "g1012", {"band": "g1", "exposure": 12}),
        ("{instrument}_{exposure:04d}.fits", "HAWK_I_0012.fits", {"instrument": "HAWK_I", "exposure": 12}),
        ("dark_{seconds:.1f}s.fits", "dark_2.5s.fits", {"seconds": 2.5}),
        ("dark_{seconds}s.fits", "dark_1e3s.fits", {"seconds": 1000.0}),
        ("dark_{seconds:.3g}s.fits", "dark_1.2e+04s.fits", {"seconds": 12000.0}),
        ("{tile}", "NGC+1", {"tile": "NGC+1"}),
        ("im{exposure}.head", "im-7.head", {"exposure": -7}),
        ("{tile}.head", "HAWKI.2013-01-08.head", {"tile": "HAWKI.2013-01-08"}),
        ("a[{tile}]* b.x", "a[t]* b.x", {"tile": "t"}),
    ],
)
def test_a_name_is_read_backwards(pattern: str, name: str, values: dict[str, Any]) -> None:
    assert NamePattern(pattern, KINDS).match(name) == values


@pytest.mark.parametrize(
    ("pattern", "name", "told"),
    [
        ("im{exposure:06d}.head", "im12.head", "{exposure:06d}.head cannot be read at '12.head'"),
        ("im{exposure:06d}.head", "im0001234567.head", "{exposure:06d}.head cannot be read at"),
        ("im{exposure}.head", "im012.head", "{exposure}.head cannot be read at '012.head'"),
        ("im{exposure:06d}.head", "xm000012.head", "'im' does not stand at 'xm000012.head'"),
        ("im{exposure:06d}.head", "im000012.head.bak", "it goes on after {exposure:06d}.head"),
        ("im{exposure:06d}.head", "im-0012.head", "cannot be read at"),
        ("im{exposure}.head", "im1_0.head", "cannot be read at"),
        ("im{exposure}.head", f"im{'1' * 200}.head", "cannot be read at"),
        ("{seconds}.fits", "1e999.fits", "cannot be read at"),
        ("im{exposure:06d}.head", "im٠٠٠٠١٢.head", "cannot be read at"),
        ("im{exposure:06d}.head", "", "'im' does not stand at ''"),
        ("{a}_{b}.fits", "x_y_z.fits", "can be read in two ways by '{a}_{b}.fits': a=x, b=y_z, or a=x_y, b=z"),
        ("{a}_{b}.fits", "x_.fits", "{b}.fits cannot be read at '.fits'"),
        ("d_{seconds:.1f}", "d_2.50", "it goes on after {seconds:.1f}"),
        ("d_{seconds}", "d_nan", "cannot be read at 'nan'"),
        ("{begins_at}.fits", "2013-13-41.fits", "cannot be read at '2013-13-41.fits'"),
        ("{tile}.fits", "-rf.fits", "cannot be read at '-rf.fits'"),
        ("{tile}.fits", "a\n.fits", "cannot be read at"),
        ("{tile}.head", ".head", "cannot be read at"),
        ("{tile}.head", "..head", "cannot be read at"),
        ("{tile}.head", "a/b.head", "cannot be read at"),
        ("{tile}.head", "a\udcff.head", "cannot be read at"),
    ],
)
def test_a_name_that_does_not_fit_or_says_two_things_is_refused(pattern: str, name: str, told: str) -> None:
    with pytest.raises(BadName) as caught:
        NamePattern(pattern, KINDS).match(name)
    assert told in str(caught.value)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("{a}{b}", "nothing stands between {a} and {b}, to tell where the one ends"),
        ("{exposure}{detector}", "nothing stands between {exposure} and {detector}"),
        ("{exposure}{tile}", "nothing stands between {exposure} and {tile}"),
        ("{night}_{night}", "a field stands in it twice"),
        ("fixed.fits", "it has no field"),
        ("", "it has no field"),
        ("{good}.fits", "good is of type bool, which no name says"),
        ("{exposure:6d}", "the format '6d' of {exposure} cannot be read backwards for a value of type int"),
        ("{exposure:x}", "the format 'x' of {exposure} cannot be read backwards"),
        ("{tile:>8}", "the format '>8' of {tile} cannot be read backwards for a value of type str"),
        ("{begins_at:%Y}", "cannot be read backwards"),
        ("{exposure:09999d}", "cannot be read backwards"),
        ("{exposure:_}", "cannot be read backwards"),
        ("{tile", "pattern '{tile' cannot be read backwards: expected '}' before end of string"),
        ("{tile!r}", "the field 'tile' is not a plain name"),
        ("{tile.x}", "the field 'tile.x' is not a plain name"),
        ("{}", "the field '' is not a plain name"),
    ],
)
def test_a_pattern_that_could_be_read_in_several_ways_is_refused(pattern: str, told: str) -> None:
    with pytest.raises(BadName) as caught:
        NamePattern(pattern, KINDS)
    assert told in str(caught.value)


@pytest.mark.req("X05")
def test_fields_of_a_name_and_of_a_glob() -> None:
    assert fields_in("*.[fh]its") == ()
    assert fields_in("im{exposure:06d}_{tile}.head") == ("exposure", "tile")
    pattern = NamePattern("{a}_{b}.fits", KINDS)
    assert [pattern.fits(name) for name in ("x_y.fits", "x_y_z.fits", "x.fits")] == [True, True, False]


@given(st.integers(-(10**9), 10**9), st.integers(0, 10**4), texts)
def test_what_a_template_writes_is_read_back_or_refused(exposure: int, n: int, tile: str) -> None:
    text = "{tile}_{exposure:06d}-{n}.fits"
    values = {"tile": tile, "exposure": exposure, "n": n}
    try:
        name = Template(text).render(values)
        assert NamePattern(text, KINDS).match(name) == values
    except BadName as error:
        assert "two ways" in str(error) or "fit for a file name" in str(error) or ".." in str(error)


@given(texts)
def test_what_is_read_writes_the_same_name_again(name: str) -> None:
    text = "{tile}-{exposure:02d}{detector:01d}.{n}"
    try:
        values = NamePattern(text, KINDS).match(name)
    except BadName:
        return
    assert Template(text).render(values) == name


def test_a_hostile_name_is_read_or_refused_like_any_other() -> None:
    pattern = NamePattern("_".join(f"{{t{number}}}" for number in range(12)) + ".fits", {})
    with pytest.raises(BadName, match=r"t11}\.fits cannot be read at"):
        pattern.match("_" * 20 + "a_" * 117)
    assert not NamePattern("{tile}_{band}_{exposure}.x", KINDS).fits("_" * 100_000 + "a_" * 100_000)


def of(pattern: str, format: str = "any", /, **metadata: Any) -> FileType:
    return FileType.model_validate({"name": "head", "format": format, "name_pattern": pattern, "metadata": metadata})


def test_the_type_of_a_field_is_that_of_its_key() -> None:
    made = of("{instrument}_{exposure}_{begins_at}_{seq:03d}_{dit:.1f}_{mode}_{x}", x={"type": "float"})
    assert name_kinds(made) == {
        "instrument": "str",
        "exposure": "int",
        "begins_at": "time",
        "seq": "int",
        "dit": "float",
        "mode": "str",
        "x": "float",
    }
    assert pattern_of(of("")) is None


@pytest.mark.req("X11")
def test_what_a_name_says_stands_with_what_the_header_says(tmp_path: Path) -> None:
    path = tmp_path / "cam_0012_g.fits"
    path.write_bytes(fits_bytes({"OBJECT": "M 67", "EXPNUM": 12}))
    keys: dict[str, Any] = {
        "object": {"keywords": ["OBJECT"]},
        "exposure": {"keywords": ["EXPNUM"], "type": "int", "required": True},
    }
    found = read_metadata(path, of("{instrument}_{exposure:04d}_{band}.fits", "fits", **keys))
    assert found.data_id == {"instrument": "cam", "exposure": 12, "band": "g"}
    assert found.values == {"object": "M 67"}


def refusal(path: Path, file_type: FileType) -> BadMetadata:
    with pytest.raises(BadMetadata) as caught:
        inspect_file(path, file_type)
    return caught.value


@pytest.mark.req("X11")
def test_header_and_name_that_disagree_are_refused_with_both(tmp_path: Path) -> None:
    path = tmp_path / "cam_0013.fits"
    path.write_bytes(fits_bytes({"EXPNUM": 12}))
    keys: dict[str, Any] = {"exposure": {"keywords": ["EXPNUM"], "type": "int"}}
    error = refusal(path, of("cam_{exposure:04d}.fits", "fits", **keys))
    assert error.reason == "contradiction"
    assert str(error) == f"{path}: exposure: its header says 12, its name 0013"


def test_a_name_that_does_not_fit_is_refused_with_the_pattern(tmp_path: Path) -> None:
    path = tmp_path / "im12.head"
    path.write_text("x")
    error = refusal(path, of("im{exposure:06d}.head"))
    assert error.reason == "other_name"
    assert str(error) == (
        f"{path}: 'im12.head' does not fit 'im{{exposure:06d}}.head': {{exposure:06d}}.head cannot be read at"
        " '12.head', which is the name_pattern of file type 'head'"
    )


@pytest.mark.parametrize("end", ["", ".gz", ".fz"])
def test_the_end_that_tells_how_a_file_is_compressed_may_be_left_out(tmp_path: Path, end: str) -> None:
    path = tmp_path / f"im000012.fits{end}"
    path.write_text("x")
    assert inspect_file(path, of("im{exposure:06d}.fits")).metadata.data_id == {"exposure": 12}


@pytest.mark.parametrize(
    ("header", "name", "agree"),
    [
        ("2013-01-08T00:00:00.1234", "2013-01-08T00:00:00.123", True),
        ("2013-01-08T00:00:00.1236", "2013-01-08T00:00:00.124", True),
        ("2013-01-08T00:00:00.1254", "2013-01-08T00:00:00.123", False),
        ("2013-01-08T03:04:05", "2013-01-08", True),
        ("2013-01-09T03:04:05", "2013-01-08", False),
    ],
)
def test_a_time_agrees_as_precisely_as_the_name_says_it(tmp_path: Path, header: str, name: str, agree: bool) -> None:
    path = tmp_path / f"HAWKI.{name}.fits"
    path.write_bytes(fits_bytes({"DATE-OBS": header}))
    file_type = of("HAWKI.{begins_at}.fits", "fits", begins_at={"keywords": ["DATE-OBS"], "type": "time"})
    if agree:
        begins = inspect_file(path, file_type).metadata.begins_at
        assert begins is not None
        assert begins.isoformat().startswith(header)
    else:
        assert refusal(path, file_type).reason == "contradiction"


def test_a_key_says_what_a_part_of_the_name_means_and_may_be(tmp_path: Path) -> None:
    path = tmp_path / "B_030.dat"
    path.write_text("x")
    keys: dict[str, Any] = {
        "band": {"values": {"B": "blue"}},
        "dit": {"type": "int", "max": 60},
        "next": {"compute": "concat(band)"},
    }
    found = inspect_file(path, of("{band}_{dit:03d}.dat", **keys)).metadata
    assert (found.data_id, found.values) == ({"band": "blue"}, {"dit": 30, "next": "blue"})
    keys["dit"]["max"] = 20
    error = refusal(path, of("{band}_{dit:03d}.dat", **keys))
    assert (error.reason, str(error)) == ("bad_value", f"{path}: dit: 030 of its name: 30 is more than 20")


def test_a_computed_key_is_compared_with_the_name(tmp_path: Path) -> None:
    keys: dict[str, Any] = {
        "begins_at": {"keywords": ["DATE-OBS"], "type": "time"},
        "night": {"compute": "night_of(begins_at, -70.8)"},
    }
    for name, reason in (("20260109", ""), ("20260110", "contradiction")):
        path = tmp_path / f"{name}.fits"
        path.write_bytes(fits_bytes({"DATE-OBS": "2026-01-10T03:00:00"}))
        file_type = of("{night:08d}.fits", "fits", **keys)
        if reason:
            assert refusal(path, file_type).reason == reason
        else:
            assert inspect_file(path, file_type).metadata.data_id == {"night": 20260109}


def test_a_file_that_the_plan_named_says_nothing_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "planned_c0001a01.head"
    path.write_text("x")
    assert inspect_file(path, of("im{exposure:06d}.head"), own_name=False).metadata.data_id == {}
