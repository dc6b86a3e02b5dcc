from __future__ import annotations

import contextlib
import os
import re
import string
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from nightmill.errors import BadName
from nightmill.files.naming import (
    MAX_NAME_BYTES,
    MAX_VALUE_LENGTH,
    Template,
    check_name,
    fit_name,
    is_fit,
    name_of_content,
    slug,
    stem_of,
)

SCIENCE = Template("{instrument}_{exposure:08d}_{detector:02d}_{band}_c{campaign:04d}a{attempt:02d}.fits")
VALUES = {"instrument": "DECam", "exposure": 12, "detector": 3, "band": "g", "campaign": 7, "attempt": 1}


def test_the_template_that_the_framework_is_given_makes_the_name() -> None:
    assert SCIENCE.render(VALUES) == "DECam_00000012_03_g_c0007a01.fits"
    assert SCIENCE.fields == ("instrument", "exposure", "detector", "band", "campaign", "attempt")


@given(st.text(), st.integers(), st.text())
@example("0", 0, "%")
@example("0", 0, "a:b")
def test_no_value_makes_a_name_that_leaves_its_folder(instrument: str, exposure: int, band: str) -> None:
    values = {**VALUES, "instrument": instrument, "exposure": exposure, "band": band}
    with contextlib.suppress(BadName):
        name = SCIENCE.render(values)
        assert instrument
        assert band
        assert set(name) <= set(string.ascii_letters + string.digits + "._+-")
        assert ".." not in name
        assert name[0] not in ".-"
        assert len(name.encode()) <= MAX_NAME_BYTES


@given(st.text(alphabet=st.sampled_from("a./\\-_ \n\0é{}:"), max_size=30), st.text(max_size=5))
def test_no_template_makes_a_name_that_leaves_its_folder(text: str, value: str) -> None:
    with contextlib.suppress(BadName):
        name = Template(text).render({"a": value, "_": 1})
        check_name(name)
        assert "/" not in name
        assert "\0" not in name
        assert ".." not in name


@given(st.text(), st.text())
def test_any_text_becomes_a_part_of_a_name_and_different_ones_stay_different(one: str, other: str) -> None:
    assert is_fit(slug(one))
    assert (slug(one) == slug(other)) is (one == other)
    assert slug("NGC_4039") == "NGC_4039"
    assert slug("NGC 4039").startswith("NGC_4039_")
    assert len(slug("x " * 100)) <= MAX_VALUE_LENGTH


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("HAWKI.2013-01-08T00:00:00.000.fits", "HAWKI.2013-01-08T00:00:00.000"),
        ("a.fits.gz", "a"),
        ("a.fits.fz", "a"),
        ("a", "a"),
        ("a.tar.xz", "a"),
    ],
)
def test_the_stem_of_a_name_leaves_out_what_tells_its_format(name: str, stem: str) -> None:
    assert stem_of(name) == stem
    template = Template("{stem}_c{campaign:04d}a{attempt:02d}.png")
    assert template.render({"stem": stem, "campaign": 1, "attempt": 1}) == f"{stem}_c0001a01.png"


@given(st.text(alphabet=string.ascii_letters + string.digits + "_+-", min_size=1, max_size=64), st.integers(0, 10**8))
def test_fit_values_stand_in_the_name_unchanged(instrument: str, exposure: int) -> None:
    assume(instrument[0] != "-")
    assert SCIENCE.render({**VALUES, "instrument": instrument, "exposure": exposure}).startswith(
        f"{instrument}_{exposure:08d}_"
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"instrument": "../etc"}, "instrument is '../etc', which is not fit for a file name; use letters, digits"),
        ({"instrument": "a/b"}, "instrument is 'a/b', which is not fit"),
        ({"instrument": "DE\nCam"}, r"instrument is 'DE\nCam', which is not fit"),
        ({"instrument": "x" * 300}, f"instrument is '{'x' * 40}'..., of 300 characters; shorten it"),
        ({"instrument": ""}, "instrument has no value"),
        ({"instrument": None}, "instrument has no value"),
        ({"instrument": ".hidden"}, "instrument is '.hidden', which is not fit"),
        ({"instrument": "-rf"}, "alone, not . or - first"),
        ({"exposure": "12"}, "Unknown format code 'd'"),
    ],
)
def test_unfit_value_is_named(changed: dict[str, object], message: str) -> None:
    with pytest.raises(BadName) as caught:
        SCIENCE.render({**VALUES, **changed})
    assert message in str(caught.value)


def test_missing_value_is_named_with_what_there_is() -> None:
    with pytest.raises(BadName, match="needs 'exposure', and there is none; it may use: campaign, instrument"):
        SCIENCE.render({"instrument": "x", "campaign": 1})


def test_values_that_are_fit_alone_may_be_too_long_together() -> None:
    with pytest.raises(BadName, match="has more than 200 bytes; shorten it"):
        Template("{a}{b}{c}{d}").render(dict.fromkeys("abcd", "x" * 60))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{a", "cannot be read: expected '}' before end of string"),
        ("a}", "cannot be read: Single '}' encountered"),
        ("{}", "the field '' is not a plain name"),
        ("{0}", "the field '0' is not a plain name"),
        ("{a.__class__}", "the field 'a.__class__' is not a plain name"),
        ("{a[0]}", "is not a plain name"),
        ("{a!r}", "is not a plain name"),
        ("{a:{b}}", "is not a plain name"),
        ("{a:99999999999d}", "the field 'a' is wider than any name"),
        ("raw/{a}", "has 'raw/', which is not fit for a file name"),
        ("{a}..{b}", "has '..', which is not fit"),
        ("{{a}}", "has '{', which is not fit"),
    ],
)
def test_bad_template(text: str, message: str) -> None:
    with pytest.raises(BadName) as caught:
        Template(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "is empty"),
        ("a/b", "contains '/'"),
        ("a..b", "contains '..'"),
        ("-rf", "begins with '-'"),
        ("a b", "contains ' '"),
        ("a\x1b", r"contains '\x1b'"),
        ("é", "contains 'é'"),
        ("x" * 201, "more than 200 bytes"),
    ],
)
def test_unfit_name(name: str, message: str) -> None:
    with pytest.raises(BadName) as caught:
        check_name(name)
    assert message in str(caught.value)


def test_what_is_fit_to_tell_files_apart() -> None:
    assert is_fit("GMOS-S")
    assert not any(is_fit(text) for text in ("", "a b", "a/b", "..", "x" * 65, "a\n", "-rf", ".hidden", "a:b", "a%b"))


OBSERVATORIES = [
    "HAWKI.2013-01-08T00:00:00.000.fits",
    "c4d_130901_042931_ori.fits.fz",
    "N20200101S0001.fits.bz2",
    "coj1m003-kb71-20150101-0001-e00.fits.fz",
    "SUPA01234567.fits",
    "jw02736001001_02101_00001_nrca1_uncal.fits",
]


@pytest.mark.parametrize("name", OBSERVATORIES)
def test_names_of_observatories_are_taken_as_they_are(name: str) -> None:
    assert fit_name(name) == name
    check_name(name)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("M 67 (B).fits", "M%2067%20%28B%29.fits"),
        ("NGC\x1b[31m1.fits", "NGC%1B%5B31m1.fits"),
        ("two\nlines.fits", "two%0Alines.fits"),
        ("100%.fits", "100%25.fits"),
        ("-rf.fits", "%2Drf.fits"),
        (".hidden.fits", "%2Ehidden.fits"),
        ("a..b.fits", "a.%2Eb.fits"),
        ("..", "%2E%2E"),
        ("ñ.fits", "%C3%B1.fits"),
        (os.fsdecode(b"latin-\xe9.fits"), "latin-%E9.fits"),
        ("@list,1.fits", "%40list%2C1.fits"),
    ],
)
def test_any_other_name_is_encoded_byte_by_byte(given: str, name: str) -> None:
    assert fit_name(given) == name
    check_name(name)


def test_a_name_that_is_too_long_ends_in_a_part_of_its_digest() -> None:
    first, second = (fit_name("x" * 230 + end + ".fits.gz") for end in "ab")
    assert first != second
    for name in (first, second):
        check_name(name)
        assert len(name) == MAX_NAME_BYTES
        assert re.fullmatch(r"x+%-[0-9a-f]{16}\.fits\.gz", name)


@given(st.binary(min_size=1, max_size=255), st.binary(min_size=1, max_size=255))
def test_no_two_names_become_one_and_all_are_fit(one: bytes, other: bytes) -> None:
    names = [fit_name(os.fsdecode(each)) for each in (one, other)]
    for data, name in zip((one, other), names, strict=True):
        check_name(name)
        assert "%-" in name or unquote_to_bytes(name) == data
    assert (names[0] == names[1]) == (one == other)


@pytest.mark.parametrize(
    ("given", "compression", "name"),
    [
        ("a.fits", "", "a.fits"),
        ("a.fits", "gz", "a.fits.gz"),
        ("a.fits.gz", "gz", "a.fits.gz"),
        ("a.FITS.GZ", "gz", "a.FITS.GZ"),
        ("a.fits.gz", "", "a.fits"),
        ("a.fits.gz", "bz2", "a.fits.gz.bz2"),
        ("a.fits.fz", "", "a.fits.fz"),
        ("a.fits.fz", "gz", "a.fits.fz.gz"),
        (".gz", "", ".gz"),
    ],
)
def test_the_end_of_a_name_tells_what_its_bytes_are(given: str, compression: str, name: str) -> None:
    assert name_of_content(given, compression) == name


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
