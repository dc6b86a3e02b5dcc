"""A mixed night is sorted into file types by what each file says of itself."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from nightmill.backbone.catalogue.calibrations import current
from nightmill.backbone.catalogue.files import files_named
from nightmill.backbone.schema import AuditRow, RefusalRow
from nightmill.errors import RequestRefused
from nightmill.files import recognition
from nightmill.files.inspection import Opened, open_file
from nightmill.model.calibration import Maturity
from nightmill.model.origin import Origin
from nightmill.operations.ingest.take_in import IngestResult, ingest
from nightmill.operations.site import Site, open_site
from tests.files.test_rows import table
from tests.support.backbone import dump
from tests.support.observatory import frame, stored

TYPES = """\
file_types:
  raw_science:
    format: fits
    recognise: "obs_type == 'SCIENCE' and instrument == 'cam'"
    metadata: &keys
      instrument: {keywords: [INSTRUME], required: true}
      exposure: {keywords: [EXPNUM], type: int, required: true}
      begins_at: {keywords: [DATE-OBS], type: time}
      exposure_seconds: {keywords: [EXPTIME], type: float, unit: s}
      ends_at: {compute: "end_of(begins_at, exposure_seconds)"}
      night: {compute: "night_of(begins_at, -70.8)"}
      obs_type: {keywords: [OBSTYPE], values: {OBJECT: SCIENCE}}
  raw_arc:
    format: fits
    recognise: "obs_type == 'ARC' and instrument == 'cam'"
    calibration: {set: arcs, valid_days_before: 0.5, valid_days_after: 1, maturity: certified}
    metadata: *keys
  raw_dark:
    format: fits
    recognise: "obs_type in ['DARK', 'BIAS'] and not (exposure_seconds > 100)"
    metadata: *keys
  pairs:
    format: fits
    recognise: like(original_name, "pairs%")
    membership: {columns: [pair], table: PAIRS}
  note:
    recognise: like(original_name, "%.txt") and size_bytes < 100
  loose: {format: fits}
"""


def with_types(site: Site, types: str = TYPES) -> Site:
    (site.config.directory / "file_types.yaml").write_text(types)
    site.close()
    return open_site(site.config.directory)


@pytest.fixture
def sorting(site: Site) -> Iterator[Site]:
    """Give a site whose types recognise their files: once on SQLite, once on PostgreSQL."""
    with with_types(site) as opened:
        yield opened


@pytest.fixture
def lite(lite_site: Site) -> Iterator[Site]:
    """Give it on SQLite."""
    with with_types(lite_site) as opened:
        yield opened


def bring(site: Site, *paths: Path, **options: Any) -> IngestResult:
    return ingest(site, paths, **{"origin": Origin.RAW, "who": "ada", **options})


def write(folder: Path, **files: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name.replace("__", ".")).write_bytes(data)
    return folder


def mixed(folder: Path) -> Path:
    return write(
        folder,
        a__fits=frame(1, OBSTYPE="OBJECT"),
        b__fits=frame(2, OBSTYPE="ARC"),
        c__fits=frame(3, OBSTYPE="DARK"),
        d__fits=frame(4, OBSTYPE="FOCUS"),
        e__txt=b"clear sky",
    )


def refused(result: IngestResult) -> dict[str, tuple[str, str]]:
    return {each.path.name: (each.reason, each.message) for each in result.refused}


@pytest.mark.req("X13")
def test_a_mixed_night_is_sorted_by_its_headers(sorting: Site, tmp_path: Path) -> None:
    night = mixed(tmp_path / "night")
    result = bring(sorting, night)
    assert {each.name: each.type for each in result.registered} == {
        "a.fits": "raw_science",
        "b.fits": "raw_arc",
        "c.fits": "raw_dark",
        "e.txt": "note",
    }
    [(reason, message)] = refused(result).values()
    assert reason == "no_type"
    assert message == (
        f"{night}/d.fits fits no file type; raw_science: obs_type is 'FOCUS'; raw_arc: obs_type is 'FOCUS'; raw_dark:"
        " obs_type is 'FOCUS'; pairs: original_name is 'd.fits'; note: original_name is 'd.fits', size_bytes is"
        f" {(night / 'd.fits').stat().st_size}; say --type, or let the 'recognise' of a type fit"
    )
    with sorting.database.reading() as session:
        rows = files_named(session, ["a.fits", "b.fits"])
        assert (rows["a.fits"].type, rows["a.fits"].exposure, rows["a.fits"].night) == ("raw_science", 1, 20260110)
        [refusal] = session.scalars(select(RefusalRow))
        assert (refusal.type, refusal.reason, refusal.message) == ("", "no_type", message)
        [act] = session.scalars(select(AuditRow).where(AuditRow.verb == "ingest"))
        assert act.detail["type"] == ""
    again = bring(sorting, night)
    assert (len(again.registered), len(again.skipped), len(again.refused)) == (0, 4, 1)


def test_what_fits_several_types_is_refused_with_all_of_them(lite_site: Site, tmp_path: Path) -> None:
    types = TYPES.replace("obs_type == 'ARC' and", "obs_type in ['ARC', 'DARK'] and")
    with with_types(lite_site, types) as site:
        result = bring(site, mixed(tmp_path / "night") / "c.fits")
    assert refused(result)["c.fits"] == (
        "several_types",
        f"{tmp_path}/night/c.fits fits several file types: raw_arc (obs_type in ['ARC', 'DARK'] and instrument =="
        " 'cam'), raw_dark (obs_type in ['DARK', 'BIAS'] and not (exposure_seconds > 100)); let 'recognise' tell them"
        " apart, or say --type",
    )


@pytest.mark.parametrize(
    ("cards", "why"),
    [
        ({"OBSTYPE": None}, "raw_arc: obs_type has no value"),
        ({"OBSTYPE": "arc"}, "raw_arc: obs_type is 'arc'"),
        ({"OBSTYPE": "ARC", "INSTRUME": "spec"}, "raw_arc: instrument is 'spec'"),
        ({"OBSTYPE": "DARK", "EXPTIME": 300.0}, "raw_dark: exposure_seconds is 300.0"),
        (
            {"OBSTYPE": "DARK", "EXPTIME": "long"},
            "raw_dark: exposure_seconds: EXPTIME of HDU 0: 'long' is not a number",
        ),
        ({"OBSTYPE": "DARK", "EXPTIME": None}, "raw_dark: exposure_seconds has no value"),
    ],
)
def test_each_type_says_why_a_file_is_not_of_it(lite: Site, tmp_path: Path, cards: dict[str, object], why: str) -> None:
    result = bring(lite, write(tmp_path / "night", x__fits=frame(1, **cards)))
    [(reason, message)] = refused(result).values()
    assert reason == "no_type"
    assert f"; {why};" in message


def test_a_recognised_file_is_held_to_what_its_type_requires(lite: Site, tmp_path: Path) -> None:
    lacking = frame(1, OBSTYPE="ARC", EXPNUM=None)
    result = bring(lite, write(tmp_path / "night", x__fits=lacking))
    [(reason, message)] = refused(result).values()
    assert reason == "missing_keyword"
    assert "has no value for exposure (EXPNUM), which file type 'raw_arc' requires" in message
    with lite.database.reading() as session:
        assert [row.type for row in session.scalars(select(RefusalRow))] == ["raw_arc"]


@pytest.mark.parametrize(
    ("data", "reason"), [(b"", "empty"), (b"not FITS", "not_fits"), (frame(1, OBSTYPE="ARC")[:3000], "truncated")]
)
def test_a_file_that_no_format_reads_is_refused_for_what_is_wrong_with_it(
    lite_site: Site, tmp_path: Path, data: bytes, reason: str
) -> None:
    only_fits = TYPES.replace('    recognise: like(original_name, "%.txt") and size_bytes < 100\n', "    {}\n")
    with with_types(lite_site, only_fits.replace("  note:\n    {}\n", "")) as site:
        result = bring(site, write(tmp_path / "night", x__fits=data))
    assert [each for each, _ in refused(result).values()] == [reason]


def test_a_mistaken_type_is_caught(lite: Site, tmp_path: Path) -> None:
    night = mixed(tmp_path / "night")
    result = bring(lite, night / "b.fits", night / "c.fits", type="raw_arc")
    assert [each.name for each in result.registered] == ["b.fits"]
    assert refused(result)["c.fits"] == (
        "other_type",
        f"{night}/c.fits is not of type 'raw_arc': obs_type is 'DARK'; it fits raw_dark",
    )
    assert [each.type for each in bring(lite, night / "c.fits", type="loose").registered] == ["loose"]


@pytest.mark.req("X13")
def test_a_header_is_read_once_however_many_types_look(
    lite: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[tuple[Path, str]] = []

    def counted(path: Path, format: str, *rest: Any, **options: Any) -> Opened:
        reads.append((Path(path), format))
        return open_file(path, format, *rest, **options)

    monkeypatch.setattr(recognition, "open_file", counted)
    path = mixed(tmp_path / "night") / "a.fits"
    bring(lite, path)
    assert reads == [(path, "fits"), (path, "any")]


def test_types_may_read_a_key_each_in_its_own_way(lite_site: Site, tmp_path: Path) -> None:
    types = """\
file_types:
  old:
    format: fits
    recognise: kind == 'ARC'
    metadata: {kind: {keywords: [OBSTYPE]}, dit: {keywords: [DIT], type: float}}
  new:
    format: fits
    recognise: kind == 'ARC' and dit > 1
    checks: {checksum: ignored}
    metadata: {kind: {keywords: [IMAGETYP], values: {LAMP: ARC}}, dit: {keywords: [EXPTIME], type: float}}
"""
    with with_types(lite_site, types) as site:
        night = write(
            tmp_path / "night",
            a__fits=frame(1, OBSTYPE="ARC", IMAGETYP="SKY"),
            b__fits=frame(2, OBSTYPE="SKY", IMAGETYP="LAMP"),
            c__fits=frame(3, OBSTYPE="ARC", IMAGETYP="LAMP"),
        )
        result = bring(site, night)
    assert {each.name: each.type for each in result.registered} == {"a.fits": "old", "b.fits": "new"}
    assert refused(result)["c.fits"][0] == "several_types"


def test_compressed_and_oddly_named_files_are_sorted_as_others(lite: Site, tmp_path: Path) -> None:
    import gzip

    night = write(tmp_path / "night", a__fits__gz=gzip.compress(frame(1, OBSTYPE="ARC")))
    (Path(str(night)) / b"b\xff c.fits".decode(errors="surrogateescape")).write_bytes(frame(2, OBSTYPE="DARK"))
    result = bring(lite, night)
    assert not result.refused
    assert sorted(each.type for each in result.registered) == ["raw_arc", "raw_dark"]


def test_without_rules_a_type_must_be_said(lite_site: Site, tmp_path: Path) -> None:
    with pytest.raises(RequestRefused, match=r"no file type of the site has 'recognise', .*; say --type, or write"):
        bring(lite_site, mixed(tmp_path / "night"))


def test_sorted_files_may_be_manual(lite: Site, tmp_path: Path) -> None:
    options = {"origin": Origin.MANUAL, "provenance": "from the archive"}
    night = mixed(tmp_path / "night")
    result = bring(lite, night / "a.fits", night / "b.fits", **options)
    assert {each.name: each.type for each in result.registered} == {
        "a_m001.fits": "raw_science",
        "b_m001.fits": "raw_arc",
    }
    assert set(stored(lite.config.directory)) == {"manual/raw_science/a_m001.fits", "manual/raw_arc/b_m001.fits"}


# --------------------------------------------------------------------------------------------- calibrations


@pytest.mark.req("X13")
def test_a_type_makes_its_raw_files_calibrations(sorting: Site, tmp_path: Path) -> None:
    bring(sorting, mixed(tmp_path / "night"))
    with sorting.database.reading() as session:
        [role] = current(session)
    assert (role.file.name, role.set_name, role.maturity) == ("b.fits", "arcs", Maturity.CERTIFIED)
    assert role.valid_from == datetime(2026, 1, 10, 15, 12, 45, tzinfo=UTC)
    assert role.valid_until == datetime(2026, 1, 12, 3, 13, 15, tzinfo=UTC)
    assert (role.who, role.why) == ("ada", "taken in as raw_arc")


def test_a_calibration_without_a_time_is_refused(lite: Site, tmp_path: Path) -> None:
    result = bring(lite, write(tmp_path / "night", x__fits=frame(1, OBSTYPE="ARC", DATE_OBS=None)))
    [(reason, message)] = refused(result).values()
    assert reason == "no_time"
    assert message.endswith(
        "x.fits has no begins_at, and file type 'raw_arc' makes it a calibration, which is valid for a range of time;"
        " let begins_at read another keyword, or leave 'calibration' out of the type"
    )
    with lite.database.reading() as session:
        assert current(session) == []


def test_a_calibration_may_be_valid_for_ever(lite_site: Site, tmp_path: Path) -> None:
    types = TYPES.replace(
        "valid_days_before: 0.5, valid_days_after: 1", "valid_days_before: 1e9, valid_days_after: 1e9"
    )
    with with_types(lite_site, types) as site:
        assert [each.type for each in bring(site, mixed(tmp_path / "night") / "b.fits").registered] == ["raw_arc"]
        with site.database.reading() as session:
            [role] = current(session)
    assert (role.valid_from.year, role.valid_until.year) == (1, 9999)


# --------------------------------------------------------------------------------------------- dry runs


@pytest.mark.req("X13")
@pytest.mark.parametrize("options", [{}, {"origin": Origin.MANUAL, "provenance": "from the archive"}])
def test_a_dry_run_writes_nothing_and_tells_all(sorting: Site, tmp_path: Path, options: dict[str, Any]) -> None:
    night = mixed(tmp_path / "night")
    table(night / "pairs1.fits", pair=("K", [1, 2]))
    (night / "pairs2.fits").write_bytes(frame(9))
    before, files = dump(sorting.database), everything(sorting.config.directory)
    dry = bring(sorting, night, dry_run=True, **options)
    assert (dump(sorting.database), everything(sorting.config.directory)) == (before, files)
    done = bring(sorting, night, **options)
    assert [(each.arrival.path, each.new.name, each.new.type) for each in dry.wanted] == [
        (each.path, each.name, each.type) for each in done.registered
    ]
    assert refused(dry) == refused(done)
    assert {each.path for each in dry.wanted} == set(stored(sorting.config.directory))
    assert refused(dry)["pairs2.fits"][0] == "no_rows"
    assert [each.name for each in bring(sorting, night, dry_run=True, **options).skipped] == [
        each.name for each in done.registered
    ]


def everything(folder: Path) -> dict[Path, int]:
    databases = ("nightmill.db", "nightmill.db-wal", "nightmill.db-shm")
    return {path: path.stat().st_size for path in folder.rglob("*") if path.name not in databases}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "obs_type == 'ARC'",
            "obstype == 'ARC'",
            "recognise asks for 'obstype', which the metadata of",
        ),
        ("obs_type == 'ARC'", "band == 'g'", "recognise asks for 'band', which the metadata of the type does not read"),
        ("obs_type == 'ARC'", "registered_at > '2026-01-01'", "recognise asks for 'registered_at', which"),
        ("obs_type == 'ARC'", "obs_type = 'ARC'", "recognise: the expression cannot be read"),
        ("valid_days_after: 1", "valid_days_after: -1", "valid_days_before and valid_days_after should be 0 or more"),
        (
            "begins_at: {keywords: [DATE-OBS], type: time}",
            "started: {keywords: [DATE-OBS], type: time}",
            "no begins_at",
        ),
    ],
)
def test_a_rule_that_cannot_be_right_is_refused_where_it_stands(
    lite_site: Site, old: str, new: str, expected: str
) -> None:
    assert old in TYPES
    file = lite_site.config.directory / "file_types.yaml"
    file.write_text(TYPES.replace(old, new))
    with pytest.raises(RequestRefused) as refusal, open_site(lite_site.config.directory):
        pass
    assert expected in str(refusal.value)
    assert "file_types.yaml:" in str(refusal.value)
