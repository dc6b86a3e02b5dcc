"""Journal files: what a reader makes of one that is torn, damaged, or written by several threads."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightmill.execution.journal import JournalWriter, SpoolAway, append_entries, journals, read_journal
from nightmill.execution.owner import this_process
from nightmill.execution.recover import finish_dead, writer_is_dead
from nightmill.model.fate import Fate
from nightmill.model.journal import Done, Entry, SoftwareSeen, Started, StepBegan
from nightmill.model.order import AttemptKey
from nightmill.model.report import fold, stacks
from nightmill.model.states import AttemptState
from tests.support.mounts import fill, small_disk
from tests.support.orders import Bench, fits_bytes, output, shell

NOW = datetime(2026, 1, 11, 9, 30, tzinfo=UTC)


def software(number: int) -> SoftwareSeen:
    return SoftwareSeen(sha256=f"{number:064d}", packages={"sep": f"1.{number}", "blank": "x" * 500})


def written(spool: Path, *entries: Entry) -> Path:
    with JournalWriter(spool) as journal:
        for entry in entries:
            journal.append(entry)
    return journal.path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    entries: list[Entry] = [
        software(1),
        Done(attempt=key(1), at=NOW, state=AttemptState.FAILED, fate=Fate.LOST, evidence='µ\n"x"'),
    ]
    path = written(tmp_path / "new" / "spool", *entries)
    journal = read_journal(path)
    assert journal.header is not None
    assert journal.header.owner == this_process()
    assert list(journal.entries) == entries
    assert list(journals(tmp_path / "new" / "spool")) == [path]
    assert list(journals(tmp_path / "no spool")) == []


def test_an_entry_can_be_read_as_soon_as_it_was_appended(tmp_path: Path) -> None:
    seen: list[Entry] = []
    with JournalWriter(
        tmp_path, listener=lambda entry: seen.extend(read_journal(journal.path).entries[-1:])
    ) as journal:
        for number in range(3):
            journal.append(software(number))
    assert seen == [software(number) for number in range(3)]


def test_a_journal_has_its_name_only_when_its_header_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named: list[list[Path]] = []
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        named.append(list(journals(tmp_path)))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    with JournalWriter(tmp_path) as journal:
        assert named == [[], [journal.path]]


def test_what_is_told_is_made_durable_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    with JournalWriter(tmp_path) as journal:
        monkeypatch.setattr(os, "fsync", spy)
        journal.sync()
        assert synced == []
        journal.append(software(1))
        journal.sync()
        journal.sync()
        assert synced == [journal.path]
        journal.append(software(2))
    assert synced == [journal.path] * 2, "by closing it"


@pytest.mark.parametrize("cut", [1, 20, 300])
def test_a_torn_last_line_is_left_out_and_cut_off_before_more_is_appended(tmp_path: Path, cut: int) -> None:
    path = written(tmp_path, software(1), software(2))
    os.truncate(path, path.stat().st_size - cut)
    assert read_journal(path).entries == (software(1),)
    append_entries(path, [software(3)])
    assert read_journal(path).entries == (software(1), software(3))


def test_a_torn_header_says_that_the_writer_is_dead(tmp_path: Path) -> None:
    path = written(tmp_path)
    os.truncate(path, 10)
    journal = read_journal(path)
    assert (journal.header, journal.entries) == (None, ())
    assert writer_is_dead(journal)
    assert finish_dead(journal, {}, {}).ends == []


@pytest.mark.parametrize("garbage", [b"garbage", b"{}", b'{"entry": "unheard_of"}', b"\0" * 40, b'"text"'])
def test_garbage_before_the_last_line_is_told_with_its_line(tmp_path: Path, garbage: bytes) -> None:
    path = written(tmp_path, software(1), software(2))
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*lines[:2], garbage, *lines[2:]]))
    journal = read_journal(path)
    assert journal.entries == (software(1), software(2)), "the others count"
    [damage] = journal.damage
    assert (damage.line, damage.attempt) == (3, None)
    assert damage.what.startswith("it is not a journal entry: ")


def test_a_damaged_line_says_of_which_attempt_as_long_as_that_can_be_read(tmp_path: Path) -> None:
    path = written(tmp_path, software(1))
    key = AttemptKey(campaign="night1", stage="science", unit="exposure=1", number=2)
    with path.open("a") as file:
        file.write('{"entry": "do\x00e", "attempt": ' + key.model_dump_json() + ', "at": "2026')
        file.write('\n{"entry": "done", "attempt": {"campaign": "night1"}}\n')
    assert [damage.attempt for damage in read_journal(path).damage] == [key, None]


def test_a_file_that_is_no_journal_is_told_with_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n')
    journal = read_journal(path)
    assert (journal.header, journal.entries) == (None, ())
    assert [damage.what for damage in journal.damage] == ["it is not a journal entry: owner: Field required"]


def test_threads_write_whole_entries(tmp_path: Path) -> None:
    heard: list[Entry] = []
    with JournalWriter(tmp_path, listener=heard.append) as journal:

        def tell(number: int) -> None:
            journal.append(software(number))
            journal.sync()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(tell, range(400)))
    entries = read_journal(journal.path).entries
    assert sorted(entry.sha256 for entry in entries if isinstance(entry, SoftwareSeen)) == [
        f"{n:064d}" for n in range(400)
    ]
    assert len(heard) == 400


def test_a_spool_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        SpoolAway, match=r"the journal .*/file/spool/.*\.jsonl cannot be written: Not a directory; make room"
    ):
        JournalWriter(tmp_path / "file" / "spool")


def test_a_full_spool_is_told_and_keeps_no_half_entry(tmp_path: Path) -> None:
    with small_disk(tmp_path / "spool", size="64k") as spool, JournalWriter(spool) as journal:
        journal.append(software(1))
        fill(spool)
        told = r"cannot be written: No space left on device; make room in the spool"
        with pytest.raises(SpoolAway, match=told):
            for number in range(2, 100):
                journal.append(software(number))
        whole = read_journal(journal.path).entries
        (spool / "filler").unlink()
        journal.append(software(1000))
        assert read_journal(journal.path).entries == (*whole, software(1000))


def test_a_journal_that_cannot_be_begun_leaves_nothing_behind(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with small_disk(tmp_path / "spool", size="64k") as spool:
        fill(spool)
        with pytest.raises(SpoolAway, match="cannot be written: No space left on device"):
            JournalWriter(spool)
        assert [path.name for path in spool.iterdir()] == ["filler"]
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("call", ["fsync", "ftruncate"])
def test_nothing_is_written_where_nobody_knows_what_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def broken(descriptor: int, *_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    def half(descriptor: int, data: bytes) -> int:
        return write(descriptor, data[:10]) if len(data) > 100 else broken(descriptor)

    write = os.write
    journal = JournalWriter(tmp_path)
    journal.append(software(1))
    with monkeypatch.context() as disk:
        disk.setattr(os, call, broken)
        if call == "ftruncate":
            disk.setattr(os, "write", half)
        with pytest.raises(SpoolAway, match="cannot be written: Input/output error"):
            journal.append(software(2))
            journal.sync()
    told = "cannot be written: its disk failed before; make room in the spool or mend"
    with pytest.raises(SpoolAway, match=told):
        journal.append(software(3))
    with pytest.raises(SpoolAway, match=told):
        journal.close()
    assert software(3) not in read_journal(journal.path).entries


# --------------------------------------------------------------------------------------------------- fold


def key(number: int) -> AttemptKey:
    return AttemptKey(campaign="night1", stage="science", unit=f"exposure={number}", number=1)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """Give what three jobs told: one published, one that failed, one with an intermediate file."""
    bench = Bench(tmp_path_factory.mktemp("bench"))
    frame = bench.put("frame.fits", fits_bytes())
    one = output("one", "one.txt")
    middle = output("middle", "middle.txt", store="")
    bench.run(
        bench.order(shell("a", "echo 1 > one.txt", one), inputs=(frame,), unit="exposure=1"),
        bench.order(shell("a", "exit 1"), unit="exposure=2"),
        bench.order(shell("a", "echo 1 > middle.txt", middle), shell("b", "cat ../outputs/*"), unit="exposure=3"),
    )
    return bench.entries()


def test_the_fold_says_how_each_attempt_ended(told: list[Entry]) -> None:
    assert [(report.attempt.unit, report.fate) for report in fold(told).values()] == [
        ("exposure=1", Fate.PUBLISHED),
        ("exposure=2", Fate.STEP_FAILED),
        ("exposure=3", Fate.PUBLISHED),
    ]
    assert set(stacks(told)) == {step.software for report in fold(told).values() for step in report.steps}


@given(data=st.data())
def test_every_prefix_folds_and_says_what_was_told_so_far(told: list[Entry], data: st.DataObject) -> None:
    prefix = told[: data.draw(st.integers(0, len(told)))]
    reports = fold(prefix)
    assert list(reports) == [entry.attempt for entry in prefix if isinstance(entry, Started)]
    ended = {entry.attempt for entry in prefix if isinstance(entry, Done)}
    assert {attempt for attempt, report in reports.items() if report.state.ended} == ended
    began = {entry.attempt: entry.step for entry in prefix if isinstance(entry, StepBegan)}
    assert {attempt: report.steps[-1].name for attempt, report in reports.items() if report.steps} == began


@given(data=st.data())
def test_attempts_may_be_interleaved_in_any_way(told: list[Entry], data: st.DataObject) -> None:
    apart = [[entry for entry in told if getattr(entry, "attempt", None) == key(number)] for number in (1, 2, 3)]
    turns = data.draw(st.permutations([number for number, entries in enumerate(apart) for _ in entries]))
    left = [iter(entries) for entries in apart]
    mixed = [next(left[turn]) for turn in turns]
    assert fold(mixed) == fold(told)


@given(data=st.data())
def test_what_is_told_twice_or_after_the_end_changes_nothing(told: list[Entry], data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(told), max_size=10))
    assert fold(told + again) == fold(told)
    assert fold(told + told) == fold(told)


@given(data=st.data())
def test_a_file_cut_anywhere_reads_as_a_prefix(
    told: list[Entry], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = written(tmp_path_factory.mktemp("spool"), *told)
    os.truncate(path, data.draw(st.integers(0, path.stat().st_size)))
    entries = read_journal(path).entries
    assert list(entries) == told[: len(entries)]
    assert len(fold(entries)) <= 3
