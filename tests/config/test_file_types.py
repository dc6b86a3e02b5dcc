from __future__ import annotations

from pathlib import Path

import pytest

from nightmill.config.file_types import load_file_types
from nightmill.errors import ConfigError
from nightmill.files.headers import read_metadata
from nightmill.files.naming import Template
from tests.config.documents import refusals, write
from tests.files.frames import fits_bytes

TYPES = """\
file_types:
  raw:
    format: fits
    metadata:
      instrument: {keywords: [INSTRUME], required: true}
      exposure: {keywords: [EXPNUM], type: int}
      begins_at: {keywords: [DATE-OBS], type: time}
      exposure_seconds: {keywords: [EXPTIME], type: float}
      ends_at: {compute: "end_of(begins_at, exposure_seconds)"}
      night: {compute: "night_of(begins_at, -70.8)"}
  image:
    format: fits
    template: "{instrument}_{exposure:08d}_c{campaign:04d}a{attempt:02d}.fits"
"""


def test_load(tmp_path: Path) -> None:
    types = load_file_types([write(tmp_path, "types.yaml", TYPES)])
    assert list(types) == ["raw", "image"]
    assert types["raw"].metadata["exposure"].keywords == ("EXPNUM",)
    assert types["image"].checks.min_hdus == 1


@pytest.mark.req("B12")
def test_a_type_gives_the_template_of_its_names_and_one_that_cannot_be_unique_is_refused(tmp_path: Path) -> None:
    image = load_file_types([write(tmp_path, "types.yaml", TYPES)])["image"]
    values = {"instrument": "DECam", "exposure": 12, "campaign": 3}
    names = {Template(image.template).render({**values, "attempt": attempt}) for attempt in (1, 2)}
    assert names == {"DECam_00000012_c0003a01.fits", "DECam_00000012_c0003a02.fits"}
    path = write(tmp_path, "types.yaml", TYPES.replace("a{attempt:02d}", ""))
    [problem] = refusals(load_file_types, [path])
    assert problem == (
        "types.yaml:13: file_types.image: template '{instrument}_{exposure:08d}_c{campaign:04d}.fits' lacks {attempt}:"
        " it cannot tell the attempts of a unit apart"
    )


@pytest.mark.req("B33", "B34")
def test_a_key_that_is_added_to_the_document_is_read_from_the_next_file(tmp_path: Path) -> None:
    frame = tmp_path / "frame.fits"
    frame.write_bytes(fits_bytes({"INSTRUME": "DECam", "DEWPOINT": 281.4, "EXPNUM": 12}))
    document = write(tmp_path, "types.yaml", TYPES)
    before = read_metadata(frame, load_file_types([document])["raw"])
    added = "      dew_point_celsius: {keywords: [DEWPOINT], type: float, keyword_unit: K, unit: deg_C}\n"
    document.write_text(TYPES.replace("  image:", added + "  image:"))
    after = read_metadata(frame, load_file_types([document])["raw"])
    assert (before.data_id, dict(before.values)) == ({"instrument": "DECam", "exposure": 12}, {})
    assert after.data_id == before.data_id
    assert after.values == {"dew_point_celsius": pytest.approx(8.25)}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("night_of(", "nigth_of(", ":10: file_types.raw: night: compute 'nigth_of(begins_at, -70.8)' calls 'nigth_of'"),
        (
            "night_of(begins_at",
            "night_of(begin_at",
            "needs 'begin_at', which is not metadata of this type (did you mean",
        ),
        ("night_of(begins_at, -70.8)", "night_of(begins_at", "compute 'night_of(begins_at' cannot be read"),
        (
            "night_of(begins_at, -70.8)",
            "concat(instrument)",
            "night is of type int, and concat(instrument) gives a str",
        ),
        ("type: time}", "}", "begins_at is a time; say type: time"),
        ("[EXPNUM], type: int", "[EXPNUM]", ":6: file_types.raw: exposure is a dimension of type int; say type: int"),
        ("keywords: [EXPTIME], ", "", "exposure_seconds has neither keywords, constant, compute nor told"),
        (
            "[EXPTIME], ",
            "[EXPTIME], compute: x(), ",
            "exposure_seconds is computed, and takes no keywords, constant or told",
        ),
        ("[EXPTIME]", "['EXPé']", "'EXPé' is not a keyword of format 'fits'"),
        ("type: float", "type: float, keyword_unit: min", "exposure_seconds has a keyword_unit and no unit"),
        ("type: float", "type: float, keyword_unit: min, unit: m", "exposure_seconds: 'min' cannot become 'm'"),
        ("type: float", "type: float, keyword_unit: mag(AB), unit: Jy", "logarithms are not converted"),
        ("type: float", "type: float, min: 2, max: 1", "exposure_seconds has min 2 and max 1: no number is both"),
        (
            "[INSTRUME], ",
            "[INSTRUME], min: 0, ",
            "instrument has min or max, which are for numbers that a header holds",
        ),
        ("type: time}", "type: time, unit: d}", "begins_at is a time, and its unit is 'd'; it may be MJD or JD"),
        ("[INSTRUME], ", '[INSTRUME], constant: "a\\a", ', "which holds control characters"),
        ("type: float", "type: float, keyword_unit: mni, unit: s", "exposure_seconds: 'mni' did not parse as unit"),
        ("type: int", "type: int, constant: x", "exposure has the constant 'x', which is not of type int"),
        ("type: float", "type: flaot", "metadata.exposure_seconds.type is 'flaot' and should be 'str', 'int', 'float'"),
        ("[INSTRUME]", "INSTRUME", "file_types.raw.metadata.instrument.keywords is 'INSTRUME' and should be a list"),
        (
            "required: true",
            "requierd: true",
            ":5: unknown key file_types.raw.metadata.instrument.requierd (did you mean 'req",
        ),
        ("      exposure_seconds:", "      name:", "metadata cannot be called 'name', which every file has already"),
        ("      exposure_seconds:", "      exposure-time:", "metadata cannot be called 'exposure-time'"),
        ("  raw:\n    format: fits", "  raw:\n    format: any", "instrument has keywords, and files of format 'any'"),
        ("  raw:\n", "  raw:\n    name: x\n", "unknown key file_types.raw.name; its name is its key, 'raw'"),
        ("  raw:\n", "  log:\n", "file_types.log: 'log' is a file type that nightmill has itself; give this one anot"),
        ("  raw:\n", "  'a b':\n", "file type name 'a b' should have letters, digits"),
        ("  raw:\n", "  other: 3\n  raw:\n", ":2: file_types.other is a number and should be a mapping"),
        (
            "  raw:\n",
            "  raw:\n    checks: {min_hdu: 2}\n",
            "unknown key file_types.raw.checks.min_hdu (did you mean 'min_hdus'",
        ),
        (
            "  raw:\n",
            "  raw:\n    checks: {min_hdus: -2}\n",
            ":3: file_types.raw.checks.min_hdus is -2 and should be greater",
        ),
        ("{exposure:08d}", "{exposur:08d}", "has the field {exposur}, which is not known (did you mean 'exposure'?)"),
        ("{exposure:08d}", "{exposure:08q}", "cannot be filled: Unknown format code 'q'"),
        ("{instrument}_", "{instrument:03d}_", "cannot be filled: Unknown format code 'd'"),
        ("{instrument}_", "raw/{instrument}_", "has 'raw/', which is not fit for a file name"),
        ("{instrument}_", "{instrument_", "cannot be read"),
        (
            "  raw:\n",
            "  raw:\n    name_pattern: '{a}{b}'\n",
            ":3: file_types.raw: pattern '{a}{b}' cannot be read backwards",
        ),
        ("  raw:\n", "  raw:\n    name_pattern: '{attempt}'\n", "has the field {attempt}, which is not a key of files"),
        ("  raw:\n", "  raw:\n    name_pattern: '{type}'\n", "metadata cannot be called 'type', which every file has"),
        (
            "  raw:\n",
            "  one: {name_pattern: 'a{seq:03d}'}\n  raw:\n    name_pattern: 'b{seq}'\n",
            "file_types.raw.metadata.seq: seq is of type str, and in file type 'one' of type int",
        ),
        (
            "format: fits\n    metadata",
            "format: text\n    metadata",
            "instrument: 'INSTRUME' has 0 groups (...), and the one",
        ),
        (
            "  raw:\n",
            "  one:\n    format: text\n    metadata:\n      a: {keywords: ['a(']}\n  raw:\n",
            ":5: file_types.one: a: 'a(' is not a regular expression: missing ), unterminated subpattern at position 1",
        ),
        (
            "  raw:\n",
            "  one: {format: text, metadata: {a: {keywords: ['(?:a+)+(b)']}}}\n  raw:\n",
            "'(?:a+)+(b)' repeats a group, which can take longer than a night on a line that does not fit",
        ),
        (
            "  raw:\n",
            "  one: {format: json, metadata: {a: {keywords: [a..b]}}}\n  raw:\n",
            "a: 'a..b' is not a keyword of format 'json'",
        ),
        (
            "  raw:\n",
            "  one: {format: yaml, membership: {columns: [a]}}\n  raw:\n",
            "membership wants a table, and files of format 'yaml' have none; say another, as fits, or told: true where",
        ),
        (
            "  raw:\n",
            "  one: {membership: {columns: [a], told: true, table: 2}}\n  raw:\n",
            "membership is told by steps, and not read from a table of the file; leave out table or told",
        ),
        ("file_types:", "file_type:", "unknown key file_type (did you mean 'file_types'?)"),
        (
            "type: float}",
            "type: float}\n      a: {compute: 'concat(b)'}\n      b: {compute: 'concat(a)'}",
            "a and b are comp",
        ),
    ],
)
def test_refusal(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in TYPES
    found = refusals(load_file_types, [write(tmp_path, "types.yaml", TYPES.replace(old, new))])
    assert any(expected in problem for problem in found), found
    assert all(problem.startswith("types.yaml:") for problem in found)


def test_problems_of_all_documents_are_told_at_once(tmp_path: Path) -> None:
    one = write(tmp_path, "one.yaml", TYPES.replace("night_of", "nigth_of"))
    two = write(tmp_path, "two.yaml", TYPES.replace("{exposure:08d}", "{exposur}"))
    found = refusals(load_file_types, [one, two, tmp_path / "three.yaml"])
    assert len(found) == 5
    assert f"two.yaml:2: file type 'raw' is defined twice (first {one}:2)" in found
    assert any("three.yaml is not there; the folder has: one.yaml, two.yaml" in problem for problem in found)


def test_nothing_is_loaded_where_anything_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load_file_types([write(tmp_path, "one.yaml", TYPES), tmp_path / "two.yaml"])
