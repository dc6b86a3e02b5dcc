"""What a file holds row by row is on record with the file, and never before; whatever dies on the way."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sqlalchemy import func, select, text

from nightmill.backbone.catalogue import attachments as catalogue
from nightmill.backbone.schema import AttachedRow, AttachmentRow, FileAttachmentRow, FileRow
from nightmill.config.campaign import load_campaign
from nightmill.config.file_types import load_file_types
from nightmill.config.site import RetentionConfig
from nightmill.errors import ConfigErrors
from nightmill.execution.attachments import ATTACHMENTS, AttachmentLost, read_attachment, write_attachment
from nightmill.execution.journal import journals
from nightmill.execution.quarantine import quarantined
from nightmill.model.attachment import Attachment
from nightmill.model.campaign import Campaign
from nightmill.model.origin import Origin
from nightmill.operations import backup
from nightmill.operations.attachments import load_rows
from nightmill.operations.drain import drain
from nightmill.operations.ingest.take_in import IngestResult, ingest
from nightmill.operations.retain import retain
from nightmill.operations.site import Site, open_site
from nightmill.operations.slice_work import SliceWork
from nightmill.operations.submit import submit
from nightmill.operations.turns import take_turn
from tests.files.test_rows import table
from tests.support.observatory import deliver

TYPES = """
  pairs:
    format: fits
    template: "pairs_c{campaign:04d}a{attempt:02d}.fits"
    membership: {columns: [pair, plus, minus], table: PAIRS}
"""
STEP = """\
import sys
import numpy as np
from astropy.io import fits
columns = [fits.Column(name=name, format="K", array=np.arange(int(sys.argv[2]))) for name in ("pair", "plus", "minus")]
fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns, name=sys.argv[3])]).writeto(sys.argv[1])
"""


def with_pairs(site: Site) -> Site:
    """Let a site know files of pairs."""
    types = site.config.directory / "file_types.yaml"
    types.write_text(types.read_text() + TYPES)
    site.close()
    return open_site(site.config.directory)


@pytest.fixture
def pairs_site(site: Site) -> Iterator[Site]:
    """Give a site that knows files of pairs: once on SQLite, once on PostgreSQL."""
    with with_pairs(site) as opened:
        yield opened


@pytest.fixture
def lite(lite_site: Site) -> Iterator[Site]:
    """Give it on SQLite."""
    with with_pairs(lite_site) as opened:
        yield opened


def pairs(folder: Path, count: int, name: str = "night1.fits") -> Path:
    folder.mkdir(exist_ok=True)
    numbers = np.arange(count)
    return table(folder / name, pair=("K", numbers), plus=("K", numbers + 7), minus=("K", numbers + 8))


def take_in(site: Site, path: Path) -> IngestResult:
    return ingest(site, [path], type="pairs", origin=Origin.RAW, who="ada")


def memberships(site: Site) -> list[tuple[str, int, dict[str, Any]]]:
    """Return what SQL users see."""
    query = text("SELECT file_name, number, data FROM membership ORDER BY file_name, number")
    with site.database.reading() as session:
        found = session.execute(query).all()
    return [(name, number, json.loads(data) if isinstance(data, str) else data) for name, number, data in found]


def hidden(site: Site) -> int:
    with site.database.reading() as session:
        return session.scalar(select(func.count()).select_from(AttachedRow)) or 0


def test_rows_come_with_a_file_that_is_taken_in(pairs_site: Site, tmp_path: Path) -> None:
    result = take_in(pairs_site, pairs(tmp_path / "in", 2))
    assert [each.name for each in result.registered] == ["night1.fits"]
    assert memberships(pairs_site) == [
        ("night1.fits", 0, {"pair": 0, "plus": 7, "minus": 8}),
        ("night1.fits", 1, {"pair": 1, "plus": 8, "minus": 9}),
    ]
    assert take_in(pairs_site, tmp_path / "in").skipped
    assert len(memberships(pairs_site)) == 2


def test_a_file_without_its_table_is_refused_with_what_is_there(lite: Site, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = table(tmp_path / "in/odd.fits", pair=("K", np.arange(3)))
    [refused] = take_in(lite, path).refused
    assert refused.reason == "no_rows"
    assert "the table in HDU 'PAIRS' has not got the column 'plus' (there is pair)" in refused.message
    assert (memberships(lite), list((lite.config.spool / ATTACHMENTS).iterdir())) == ([], [])


def test_a_load_that_died_goes_on_and_is_seen_by_nobody_until_then(
    pairs_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "ROWS", 10)
    path = pairs(tmp_path / "in", 35)
    write, calls = pairs_site.database.write, 0

    def dying(work: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:  # of the act, the beginning, and two parts
            raise KeyboardInterrupt
        return write(work)

    monkeypatch.setattr(pairs_site.database, "write", dying)
    with pytest.raises(KeyboardInterrupt):
        take_in(pairs_site, path)
    monkeypatch.undo()
    assert 0 < hidden(pairs_site) < 35
    assert memberships(pairs_site) == []
    assert [each.name for each in take_in(pairs_site, path).registered] == ["night1.fits"]
    assert [number for _name, number, _data in memberships(pairs_site)] == list(range(35))


def test_two_that_load_the_same_load_it_once(pairs_site: Site, tmp_path: Path) -> None:
    attachment = write_attachment(tmp_path, "membership", ["pair"], ([n] for n in range(25)))
    with open_site(pairs_site.config.directory) as other:
        first, columns = iter(range(25)), ("pair",)

        def rows() -> Iterator[list[int]]:
            for number in first:
                if number == 12:  # another comes to its end meanwhile
                    load_rows(other, [attachment], spool=tmp_path)
                yield [number]

        catalogue.load(pairs_site.database, attachment, columns, rows(), now=datetime.now(UTC))
    with pairs_site.database.reading() as session:
        numbers = list(session.scalars(select(AttachedRow.number).order_by(AttachedRow.number)))
        assert (numbers, len(session.scalars(select(AttachmentRow)).all())) == (list(range(25)), 1)


# --------------------------------------------------------------------------------------------- of a campaign


def campaign(folder: Path, rows: int, *, table: str = "PAIRS", name: str = "night1") -> Campaign:
    folder.mkdir(exist_ok=True)
    step = {
        "name": "pair",
        "argv": ["{python}", "{pipeline_dir}/pair.py", "{outputs.pairs}", str(rows), table],
        "inputs": ["frames"],
        "outputs": {"pairs": {"type": "pairs"}},
    }
    stage = {"per": ["instrument"], "inputs": {"frames": {"type": "raw_science", "max": None}}, "steps": [step]}
    (folder / "pair.py").write_text(STEP)
    (folder / "pipeline.yaml").write_text(yaml.safe_dump({"pipeline": "p", "version": "1", "stages": {"pair": stage}}))
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"campaign": name, "pipeline": "pipeline.yaml"}))
    return load_campaign(folder / f"{name}.yaml")


def submitted(site: Site, folder: Path, rows: int, **more: Any) -> None:
    ingest(site, deliver(folder / "night", 2), type="raw_science", origin=Origin.RAW, who="ada")
    submit(site, campaign(folder / "pipeline", rows, **more), who="ada")


def carry_out(site: Site, *, record: bool = True) -> list[Any]:
    [number] = take_turn(site, "night1", "pair").slices
    with SliceWork(site, "night1", "pair", number) as work:
        reports = list(work.worker.run(work.issue(10)))
        if record:
            work.record(reports)
    return reports


def test_rows_come_with_a_product(pairs_site: Site, tmp_path: Path) -> None:
    submitted(pairs_site, tmp_path, 3)
    [report] = carry_out(pairs_site)
    [made] = [file for file in report.published if file.step]
    assert [(each.kind, each.rows) for each in made.attachments] == [("membership", 3)]
    assert [(name, data["plus"]) for name, _number, data in memberships(pairs_site)] == [
        ("pairs_c0001a01.fits", n) for n in range(3)
    ]


def test_a_product_without_its_table_fails_the_gate(lite: Site, tmp_path: Path) -> None:
    submitted(lite, tmp_path, 3, table="EDGES")
    [report] = carry_out(lite)
    assert report.fate == "bad_output"
    assert "it has not got HDU 'PAIRS'" in report.evidence
    assert memberships(lite) == []


def test_a_spool_that_is_full_before_the_rows_are_there_publishes_nothing(
    lite: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted(lite, tmp_path, 3)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nightmill.execution.attachments.sync_folder", full)
    with pytest.raises(Exception, match=r"holds row by row cannot be written to .*: No space left on device"):
        carry_out(lite)
    with lite.database.reading() as session:
        assert session.scalars(select(FileRow.name).where(FileRow.type == "pairs")).all() == []
    assert not list(Path(lite.config.stores["backbone"].url.removeprefix("file://")).rglob("pairs*"))


def test_what_was_not_recorded_is_loaded_by_a_drain(pairs_site: Site, tmp_path: Path) -> None:
    submitted(pairs_site, tmp_path, 3)
    [path] = unrecorded(pairs_site)
    assert memberships(pairs_site) == []
    drain(pairs_site)
    assert not path.exists()
    assert len(memberships(pairs_site)) == 3


def unrecorded(site: Site) -> list[Path]:
    """Carry out the jobs in a process that dies before it records them; return its journals."""
    child = os.fork()
    if child == 0:
        with open_site(site.config.directory) as own:
            [number] = take_turn(own, "night1", "pair").slices
            work = SliceWork(own, "night1", "pair", number).__enter__()
            list(work.worker.run(work.issue(10)))
        os._exit(0)
    os.waitpid(child, 0)
    return list(journals(site.config.spool))


@pytest.mark.parametrize("how", ["lost", "forged"])
def test_a_journal_whose_rows_are_lost_is_set_apart_and_goes_on_when_they_are_back(
    lite: Site, tmp_path: Path, how: str
) -> None:
    submitted(lite, tmp_path, 3)
    unrecorded(lite)
    [attachment] = (lite.config.spool / ATTACHMENTS).iterdir()
    content = attachment.read_bytes()
    if how == "lost":
        attachment.unlink()
    else:
        attachment.write_bytes(content.replace(b"[2, 2, 2]", b"[2, 2, 9]"))
    drained = drain(lite)
    [apart] = drained.quarantined
    told = "cannot be read: No such file" if how == "lost" else "is damaged: its digest is"
    assert f"the attachment {attachment} {told}" in apart.why[0]
    assert (memberships(lite), hidden(lite)) == ([], 0)
    attachment.write_bytes(content)
    apart.path.rename(lite.config.spool / apart.path.name)
    drain(lite)
    assert (len(memberships(lite)), list(quarantined(lite.config.spool))) == (3, [])


def test_a_slice_whose_rows_are_lost_leaves_its_journal_to_a_drain(pairs_site: Site, tmp_path: Path) -> None:
    submitted(pairs_site, tmp_path, 3)
    [number] = take_turn(pairs_site, "night1", "pair").slices
    with SliceWork(pairs_site, "night1", "pair", number) as work:
        reports = list(work.worker.run(work.issue(10)))
        [attachment] = (pairs_site.config.spool / ATTACHMENTS).iterdir()
        content = attachment.read_bytes()
        attachment.unlink()
        work.record(reports)
    assert len(list(journals(pairs_site.config.spool))) == 1
    assert memberships(pairs_site) == []
    attachment.write_bytes(content)
    drain(pairs_site)
    assert len(memberships(pairs_site)) == 3


# ------------------------------------------------------------------------------------------------- retention


def aged(site: Site, days: float) -> None:
    then = (datetime.now(UTC) - timedelta(days=days)).timestamp()
    for path in (site.config.spool / ATTACHMENTS).iterdir():
        os.utime(path, (then, then))


def test_old_attachments_go_where_a_backup_holds_their_rows(lite: Site, tmp_path: Path) -> None:
    take_in(lite, pairs(tmp_path / "in", 2))
    orphan = write_attachment(lite.config.spool, "membership", ["pair"], [[1]])
    load_rows(lite, [orphan])
    site = Site(replace(lite.config, retention=RetentionConfig(journals_days=30)), lite.database)
    aged(site, 31)
    later = datetime.now(UTC) + timedelta(days=31)
    assert retain(site, now=later).attachments == 0  # without a backup, nothing goes
    backup.back_up(site, tmp_path / "copy", who="ada")
    assert retain(site, now=later, dry_run=True).attachments == 2
    assert retain(site, now=later).attachments == 2
    assert list((site.config.spool / ATTACHMENTS).iterdir()) == []
    with site.database.reading() as session:
        assert len(session.scalars(select(AttachmentRow)).all()) == 1
    assert len(memberships(site)) == 2


def test_what_a_journal_may_name_stays(lite: Site, tmp_path: Path) -> None:
    submitted(lite, tmp_path, 3)
    unrecorded(lite)
    backup.back_up(lite, tmp_path / "copy", who="ada")
    site = Site(replace(lite.config, retention=RetentionConfig(journals_days=1)), lite.database)
    later = datetime.now(UTC) + timedelta(days=400)
    assert retain(site, now=later).attachments == 0
    drain(site)
    assert len(memberships(site)) == 3


# ------------------------------------------------------------------------------------------------ what is said


def test_an_attachment_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    attachment = write_attachment(tmp_path, "membership", ["pair", "name"], [[1, "ä\n"], [2, None]])
    columns, rows = read_attachment(tmp_path, attachment)
    assert (columns, list(rows), attachment.rows) == (("pair", "name"), [[1, "ä\n"], [2, None]], 2)
    assert (tmp_path / ATTACHMENTS / f"{attachment.sha256}.jsonl").stat().st_size == attachment.size_bytes
    again = write_attachment(tmp_path, "membership", ["pair", "name"], [[1, "ä\n"], [2, None]])
    assert (again, len(list((tmp_path / ATTACHMENTS).iterdir()))) == (attachment, 1)
    with pytest.raises(AttachmentLost, match="cannot be read: No such file"):
        read_attachment(tmp_path, Attachment(kind="membership", sha256="0" * 64, size_bytes=1, rows=1))


def test_rows_that_fail_leave_nothing(tmp_path: Path) -> None:
    def rows() -> Iterator[list[int]]:
        yield [1]
        raise ValueError("the table ends here")

    with pytest.raises(ValueError, match="ends here"):
        write_attachment(tmp_path, "membership", ["pair"], rows())
    assert list((tmp_path / ATTACHMENTS).iterdir()) == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            "membership: {columns: [pair]}",
            "membership wants a table, and files of format 'any' have none; say another, as fits",
        ),
        ("format: fits\n    membership: {columns: [pair, PAIR]}", "membership names column PAIR twice"),
        ("format: fits\n    membership: {columns: []}", "membership.columns"),
        ("format: fits\n    membership: {colums: [pair]}", "did you mean 'columns'?"),
        ("format: fits\n    membership: {columns: {pair: number}}", "membership.columns"),
        ("format: fits\n    membership: {columns: {a b: int}}", "column 'a b' cannot be a key; list it without a type"),
        ("format: fits\n    membership: {columns: {begins_at: time}}", "column 'begins_at' cannot be a key; list it"),
        (
            "format: fits\n    membership: {columns: {tile: int}}",
            "column 'tile' is a dimension of type str, and says int",
        ),
        (
            "format: fits\n    metadata: {pair: {keywords: [PAIR]}}\n    membership: {columns: {pair: int}}",
            "file_types.pairs.membership.columns.pair: pair is of type int, and in file type 'pairs' of type str",
        ),
    ],
)
def test_a_membership_that_cannot_be_is_refused_with_its_line(tmp_path: Path, body: str, told: str) -> None:
    path = tmp_path / "types.yaml"
    path.write_text(f"file_types:\n  pairs:\n    {body}\n")
    with pytest.raises(ConfigErrors) as caught:
        load_file_types([path])
    assert f"{path}:" in str(caught.value)
    assert told in str(caught.value)


def test_files_that_are_attached_are_linked_in_the_transaction_of_their_rows(lite: Site, tmp_path: Path) -> None:
    take_in(lite, pairs(tmp_path / "in", 2))
    with lite.database.reading() as session:
        [link] = session.scalars(select(FileAttachmentRow))
        assert catalogue.attached(session, link.file_id) == {"membership": 2}
