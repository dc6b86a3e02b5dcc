from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from nightmill.backbone.catalogue.files import files_named
from nightmill.backbone.catalogue.refusals import refusals
from nightmill.backbone.catalogue.replicas import replicas
from nightmill.backbone.schema import AuditRow, FileRow, GenerationRow, RefusalRow, ReplicaRow
from nightmill.errors import DatabaseAway, RequestRefused, StoreFull, UnknownName
from nightmill.files import recognition
from nightmill.files.headers import read_metadata
from nightmill.files.inspection import open_file
from nightmill.model.origin import Origin
from nightmill.operations.ingest import arrivals
from nightmill.operations.ingest import take_in as ingest_module
from nightmill.operations.ingest.placement import Mode
from nightmill.operations.ingest.take_in import IngestResult, ingest
from nightmill.operations.site import Site, open_site
from tests.support.mounts import small_disk
from tests.support.observatory import deliver, frame, stored


def raw(site: Site, *paths: Path, **options: Any) -> IngestResult:
    return ingest(site, paths, **{"type": "raw_science", "origin": Origin.RAW, "who": "ada", **options})


def manual(site: Site, *paths: Path, **options: Any) -> IngestResult:
    values = {"type": "mask", "origin": Origin.MANUAL, "who": "ada", "provenance": "drawn by hand in DS9"}
    return ingest(site, paths, **values | options)


def file_of(site: Site, name: str) -> FileRow:
    with site.database.reading() as session:
        return files_named(session, [name])[name]


def names(taken: Sequence[Any]) -> list[str]:
    return [each.name for each in taken]


def reasons(result: IngestResult) -> dict[str, str]:
    return {each.path.name: each.reason for each in result.refused}


@pytest.mark.req("B21", "B23", "B33")
def test_raw_files_keep_their_names_and_stand_with_all_that_is_known_of_them(site: Site, tmp_path: Path) -> None:
    path = deliver(tmp_path / "night", 1)[0]
    result = raw(site, path)
    assert (names(result.registered), result.skipped, result.refused) == (["cam_0001.fits"], [], [])
    file = file_of(site, "cam_0001.fits")
    assert (file.type, file.origin, file.original_name, file.provenance) == (
        "raw_science",
        "raw",
        "cam_0001.fits",
        None,
    )
    assert (file.instrument, file.night, file.exposure, file.detector) == ("cam", 20260110, 1, 1)
    assert file.begins_at == datetime(2026, 1, 11, 3, 12, 45, tzinfo=UTC)
    assert file.ends_at == datetime(2026, 1, 11, 3, 13, 15, tzinfo=UTC)
    assert file.attributes == {"exposure_seconds": 30.0}
    data = path.read_bytes()
    assert (file.size_bytes, file.sha256) == (len(data), sha256(data).hexdigest())
    assert stored(site.config.directory) == {"raw/20260110/cam_0001.fits": data}
    with site.database.reading() as session:
        [copy] = replicas(session, [file.id])[file.id]
        assert (copy.store, copy.path, copy.state) == ("backbone", "raw/20260110/cam_0001.fits", "present")
        [act] = session.scalars(select(AuditRow).where(AuditRow.verb == "ingest"))
        assert (act.who, act.subject, act.detail["files"], act.detail["origin"]) == ("ada", str(path), 1, "raw")


def test_folders_are_walked_and_hidden_files_passed_over(lite_site: Site, tmp_path: Path) -> None:
    deliver(tmp_path / "night" / "b", 1)
    (tmp_path / "night" / "a").mkdir()
    (tmp_path / "night" / "a" / "early.fits").write_bytes(frame(9))
    (tmp_path / "night" / ".hidden.fits").write_bytes(frame(8))
    result = raw(lite_site, tmp_path / "night", tmp_path / "night" / "a" / "early.fits")
    assert names(result.registered) == ["early.fits", "cam_0001.fits"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestRefused, match=r"there are no files in .*empty"):
        raw(lite_site, tmp_path / "empty")


def test_a_file_without_a_night_is_undated(lite_site: Site, tmp_path: Path) -> None:
    (tmp_path / "dark.fits").write_bytes(frame(DATE_OBS=None))
    raw(lite_site, tmp_path / "dark.fits")
    assert list(stored(lite_site.config.directory)) == ["raw/undated/dark.fits"]


@pytest.mark.req("D05", "D06", "D07")
def test_a_manual_file_gets_a_unique_name_and_keeps_the_old_one(site: Site, tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine" / "my mask (new).fits", tmp_path / "theirs" / "my mask (new).fits"
    for number, path in enumerate((mine, theirs), start=1):
        path.parent.mkdir()
        path.write_bytes(frame(VERSION=number))
    result = manual(site, mine, theirs)
    assert names(result.registered) == ["my_mask_new_m001.fits", "my_mask_new_m002.fits"]
    file = file_of(site, "my_mask_new_m002.fits")
    assert (file.origin, file.original_name, file.provenance) == (
        "manual",
        "my mask (new).fits",
        "drawn by hand in DS9",
    )
    assert stored(site.config.directory)["manual/mask/my_mask_new_m002.fits"] == theirs.read_bytes()
    with site.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(GenerationRow)) == 0
        [act] = session.scalars(select(AuditRow).where(AuditRow.verb == "ingest"))
        assert act.why == "drawn by hand in DS9"
    again = manual(site, theirs, mine)
    assert (names(again.skipped), again.registered) == (["my_mask_new_m002.fits", "my_mask_new_m001.fits"], [])


def test_many_files_of_one_unfit_name_get_numbers(lite_site: Site, tmp_path: Path) -> None:
    paths = []
    for number in range(40):
        paths.append(tmp_path / str(number) / "..best  bias!.v2.fits.gz")
        paths[-1].parent.mkdir()
        paths[-1].write_bytes(frame(number))
    result = manual(lite_site, *paths)
    assert names(result.registered) == [f"best_bias_v2_m{number:03d}.fits" for number in range(1, 41)]


@pytest.mark.req("D05")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"origin": Origin.MANUAL}, r'a manual file needs a word on where it comes from; add --provenance "\.\.\."'),
        ({"origin": Origin.MANUAL, "provenance": "  "}, "needs a word on where it comes from"),
        ({"provenance": "flat-fielded"}, "nothing before a raw file is known or claimed"),
        ({"origin": Origin.BATCH}, "registered with the execution that made them"),
        ({"type": "raw_sciense"}, r"no file type named 'raw_sciense' \(did you mean 'raw_science'\?\)"),
        ({"store": "bakbone"}, r"no store named 'bakbone' \(did you mean 'backbone'\?\)"),
        ({"store": "quicklook"}, "no store named 'quicklook'"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_whole(
    lite_site: Site, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    [path] = deliver(tmp_path / "night", 1)
    with pytest.raises(RequestRefused, match=message):
        raw(lite_site, path, **options)
    with lite_site.database.reading() as session:
        for row in (FileRow, RefusalRow):
            assert session.scalar(select(func.count()).select_from(row)) == 0
    assert stored(lite_site.config.directory) == {}


def test_bad_files_are_refused_by_name_and_reason_and_the_rest_go_in(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "night"
    deliver(folder, 2)
    good = frame(77)
    (folder / "cut.fits").write_bytes(good[:-100])
    (folder / "empty.fits").write_bytes(b"")
    (folder / "text.fits").write_text("not an image")
    (folder / "nameless.fits").write_bytes(frame(EXPNUM=None))
    (folder / "evil.fits").write_bytes(frame(INSTRUME="../../etc"))
    (folder / "when.fits").write_bytes(frame(DATE_OBS="yesterday"))
    (folder / "good.fits").write_bytes(good)
    (folder / os.fsdecode(b"cut-\xe9.fits")).write_bytes(good[:-100])
    os.mkfifo(folder / "pipe.fits")
    result = raw(site, folder, folder / "gone.fits")
    assert names(result.registered) == ["cam_0001.fits", "cam_0002.fits", "good.fits"]
    expected = {
        "cut.fits": "truncated",
        "empty.fits": "empty",
        "text.fits": "not_fits",
        "nameless.fits": "missing_keyword",
        "evil.fits": "unfit_value",
        "when.fits": "bad_value",
        "pipe.fits": "unreadable",
        os.fsdecode(b"cut-\xe9.fits"): "truncated",
        "gone.fits": "missing",
    }
    assert reasons(result) == expected
    assert [Path(path).name for path in stored(site.config.directory)] == names(result.registered)
    with site.database.reading() as session:
        rows = {row.path.rpartition("/")[2]: row for row in refusals(session)}
        assert len(rows) == len(expected)
        row = rows["nameless.fits"]
        assert (row.reason, row.type, row.origin, row.who) == ("missing_keyword", "raw_science", "raw", "ada")
        assert "has no value for exposure (EXPNUM)" in row.message
        assert rows["cut-\\xe9.fits"].reason == "truncated"
        assert [each.path for each in refusals(session, name="cut.fits")] == [str(folder / "cut.fits")]


@pytest.mark.req("B08")
def test_the_same_bytes_again_are_skipped_and_other_bytes_refused(site: Site, tmp_path: Path) -> None:
    [first] = deliver(tmp_path / "night", 1)
    raw(site, first)
    before = stored(site.config.directory)
    (tmp_path / "copy").mkdir()
    (tmp_path / "other").mkdir()
    copy, other = tmp_path / "copy" / first.name, tmp_path / "other" / first.name
    copy.write_bytes(first.read_bytes())
    other.write_bytes(frame(1, OBJECT="NGC 1"))
    result = raw(site, first, copy, other)
    assert (names(result.skipped), result.registered) == ([first.name] * 2, [])
    [refused] = result.refused
    assert refused.reason == "name_taken"
    told = "registered already, with other bytes; see 'nightmill show cam_0001.fits'"
    assert refused.message == f"{other}: the name cam_0001.fits is taken: {told}"
    assert reasons(raw(site, first, type="raw_bias")) == {"cam_0001.fits": "name_taken"}
    assert stored(site.config.directory) == before


def test_two_files_of_one_name_in_one_delivery(lite_site: Site, tmp_path: Path) -> None:
    deliver(tmp_path / "a", 1)
    deliver(tmp_path / "b", 1, OBJECT="NGC 1")
    result = raw(lite_site, tmp_path / "a", tmp_path / "b")
    assert (names(result.registered), reasons(result)) == (["cam_0001.fits"], {"cam_0001.fits": "name_taken"})


def test_bytes_that_nobody_registered_are_never_overwritten(lite_site: Site, tmp_path: Path) -> None:
    [path] = deliver(tmp_path / "night", 1)
    stray = lite_site.config.directory / "stores/backbone/raw/20260110" / path.name
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"who am I")
    result = raw(lite_site, path)
    assert reasons(result) == {path.name: "name_taken"}
    assert "holds other bytes as 'raw/20260110/cam_0001.fits', which no one registered" in result.refused[0].message
    assert stray.read_bytes() == b"who am I"


def test_link_shares_the_bytes(lite_site: Site, tmp_path: Path) -> None:
    [path] = deliver(tmp_path / "night", 1)
    raw(lite_site, path, mode=Mode.LINK)
    assert path.samefile(lite_site.config.directory / "stores/backbone/raw/20260110/cam_0001.fits")


def test_link_across_file_systems_is_refused_with_a_remedy(lite_site: Site, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size="1m") as disk:
        [path] = deliver(disk / "night", 1)
        result = raw(lite_site, path, mode=Mode.LINK)
    assert reasons(result) == {path.name: "other_device"}
    assert result.refused[0].message.endswith("use --mode copy")


def test_move_removes_what_is_registered_and_nothing_else(site: Site, tmp_path: Path) -> None:
    paths = deliver(tmp_path / "night", 3)
    raw(site, paths[1])
    bad = tmp_path / "night" / "bad.fits"
    bad.write_bytes(b"")
    result = raw(site, tmp_path / "night", mode=Mode.MOVE)
    assert (len(result.registered), len(result.skipped), len(result.refused), result.left) == (2, 1, 1, [])
    assert list((tmp_path / "night").iterdir()) == [bad]
    assert len(stored(site.config.directory)) == 3


def test_move_keeps_the_source_until_its_rows_are_committed(
    lite_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = deliver(tmp_path / "night", 3)

    def away(_work: object) -> None:
        raise DatabaseAway("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(lite_site.database, "write", away)
        with pytest.raises(DatabaseAway):
            raw(lite_site, *paths, mode=Mode.MOVE)
    assert all(path.exists() for path in paths)
    result = raw(lite_site, *paths, mode=Mode.MOVE)
    assert len(result.registered) == 3
    assert not any(path.exists() for path in paths)


def test_in_place_registers_a_file_where_it_lies(site: Site, tmp_path: Path) -> None:
    folder = site.config.directory / "stores/backbone/archive/2026"
    inside = deliver(folder, 2)
    outside = deliver(tmp_path / "night", 3)[2]
    link = folder / "link.fits"
    link.symlink_to(outside)
    before = stored(site.config.directory)
    result = raw(site, folder, outside, mode=Mode.IN_PLACE)
    assert names(result.registered) == [path.name for path in inside]
    assert reasons(result) == {"link.fits": "link", outside.name: "not_in_store"}
    followed = raw(site, link, mode=Mode.IN_PLACE, follow_links=True)
    assert reasons(followed) == {"link.fits": "not_in_store"}
    assert stored(site.config.directory) == before
    file = file_of(site, inside[0].name)
    with site.database.reading() as session:
        [copy] = replicas(session, [file.id])[file.id]
        assert copy.path == "archive/2026/cam_0001.fits"


@pytest.mark.parametrize("mode", [Mode.COPY, Mode.LINK, Mode.MOVE])
def test_a_file_of_the_store_is_not_brought_into_it_again(lite_site: Site, tmp_path: Path, mode: Mode) -> None:
    [path] = deliver(lite_site.config.directory / "stores/backbone/archive", 1)
    assert reasons(raw(lite_site, path, mode=mode)) == {path.name: "in_store"}
    assert path.exists()


def test_a_file_that_changes_while_it_is_taken_in_is_refused(
    lite_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = deliver(tmp_path / "night", 2)

    def read_and_append(path: Path, *arguments: Any, **options: Any) -> Any:
        found = open_file(path, *arguments, **options)
        if path == paths[0]:
            with path.open("ab") as file:
                file.write(bytes(2880))
        return found

    monkeypatch.setattr(recognition, "open_file", read_and_append)
    result = raw(lite_site, *paths)
    assert (names(result.registered), reasons(result)) == (["cam_0002.fits"], {"cam_0001.fits": "changed"})
    assert list(stored(lite_site.config.directory)) == ["raw/20260110/cam_0002.fits"]


def test_a_full_store_ends_the_ingest_and_the_same_request_goes_on(
    tmp_path: Path, lite_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_module, "LOT", 4)
    paths = deliver(tmp_path / "night", 12)
    root = lite_site.config.directory / "stores/backbone"
    root.rmdir()
    with small_disk(root, size="64k"):
        with pytest.raises(StoreFull, match="no space left; make room"):
            raw(lite_site, *paths)
        with lite_site.database.reading() as session:
            known = set(session.scalars(select(ReplicaRow.path)))
        assert 4 <= len(known) < 12
        assert set(stored(lite_site.config.directory)) == known
    root.rmdir()
    with small_disk(root, size="4m"):
        for path in known:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes((tmp_path / "night" / Path(path).name).read_bytes())
        result = raw(lite_site, *paths)
        assert (len(result.skipped), len(result.registered)) == (len(known), 12 - len(known))
        assert len(stored(lite_site.config.directory)) == 12


def test_how_far_it_is_is_told_lot_by_lot(lite_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_module, "LOT", 2)
    deliver(tmp_path / "night", 5)
    told: list[tuple[int, int]] = []
    raw(lite_site, tmp_path / "night", report=lambda done, total: told.append((done, total)))
    assert told == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.req("B34", "B35")
def test_the_backbone_may_keep_keys_that_no_step_knows(lite_site: Site, tmp_path: Path) -> None:
    [path] = deliver(tmp_path / "night", 1)
    assert read_metadata(path).values["OBJECT"] == "M 67"
    types = lite_site.config.directory / "file_types.yaml"
    types.write_text(
        types.read_text().replace(
            "metadata:\n      instr", "metadata:\n      target: {keywords: [OBJECT]}\n      instr", 1
        )
    )
    with open_site(lite_site.config.directory) as changed:
        raw(changed, path)
        assert file_of(changed, path.name).attributes == {"exposure_seconds": 30.0, "target": "M 67"}


def test_large_files_are_worked_on_side_by_side(
    lite_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "LARGE_BYTES", 1)
    monkeypatch.setattr("nightmill.operations.ingest.lots.LARGE_BYTES", 1)
    deliver(tmp_path / "night", 20)
    (tmp_path / "night" / "cut.fits").write_bytes(frame(5)[:3000])
    result = raw(lite_site, tmp_path / "night")
    assert (len(result.registered), reasons(result)) == (20, {"cut.fits": "truncated"})
    assert [each.name for each in result.registered] == sorted(each.name for each in result.registered)
    assert len(stored(lite_site.config.directory)) == 20


def test_unknown_types_are_refused_before_anything(lite_site: Site, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="no file type named 'catalogue'"):
        raw(lite_site, tmp_path / "nothing", type="catalogue")


def test_every_reason_code_is_documented() -> None:
    root = Path(__file__).parents[2]
    sources = [*(root / "nightmill/files").rglob("*.py"), *(root / "nightmill/operations/ingest").glob("*.py")]
    texts = [path.read_text() for path in sources]
    page = (root / "docs/reference/errors.md").read_text()
    told = set(re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE))
    codes = {code for text in texts for code in re.findall(r'reason="(\w+)"', text)}
    assert {"truncated", "changed"} < codes
    assert codes <= told
