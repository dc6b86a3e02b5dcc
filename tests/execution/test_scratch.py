"""The scratch folder of an attempt."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightmill.errors import RequestRefused
from nightmill.execution.confine.confiner import Confiner
from nightmill.execution.gate import check_outputs
from nightmill.execution.index import index_of
from nightmill.execution.journal import JournalWriter, SpoolAway
from nightmill.execution.looking import LookingPrograms
from nightmill.execution.scratch import Scratch, token
from nightmill.model.fate import Fate
from nightmill.model.journal import Entry
from nightmill.model.order import AttemptKey
from tests.execution.failing import FIRST
from tests.support.mounts import small_disk
from tests.support.orders import Bench, python, shell
from tests.support.users import ordinary_user


def test_a_second_scratch_of_an_attempt_is_refused_and_the_first_left_alone(bench: Bench) -> None:
    order = bench.order(shell("s", ":"))
    first = Scratch(bench.scratch, order)
    (first.work / "file").write_text("mine")
    with pytest.raises(RequestRefused, match=r"the scratch .* exists: attempt .*/a01 runs there.*; remove the folder"):
        Scratch(bench.scratch, order)
    assert (first.work / "file").read_text() == "mine"


def test_a_scratch_that_cannot_be_made_whole_is_not_left_in_halves(bench: Bench) -> None:
    with small_disk(bench.scratch, size="64k,nr_inodes=4"):
        with pytest.raises(OSError, match="No space left on device"):
            Scratch(bench.scratch, bench.order(shell("s", ":")))
        assert list(bench.scratch.glob("*")) == []


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o700), (0o007, 0o750), (0o022, 0o755), (0, 0o755)])
def test_nobody_else_may_write_to_a_scratch_whoever_may_read_it(bench: Bench, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        scratch = Scratch(bench.scratch, bench.order(shell("s", ":")))
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in (scratch.path, *scratch.path.iterdir())}
    assert {found for path, found in modes.items() if path.is_dir()} == {mode}
    assert {found & 0o022 for found in modes.values()} == {0}
    scratch.end()


def test_what_is_kept_is_moved(bench: Bench) -> None:
    scratch = Scratch(bench.scratch, bench.order(shell("s", ":")))
    (scratch.work / "own.cat").write_text("x")
    with scratch.opened("work") as work:
        scratch.keep("own.cat", work, "unique.cat", "cats", "catalogue", "")
    assert [path.name for path in (scratch.path / "outputs").iterdir()] == ["unique.cat"]
    assert list(scratch.work.iterdir()) == []


def test_what_is_left_is_set_aside_by_step_and_the_working_folder_is_empty_again(bench: Bench) -> None:
    scratch = Scratch(bench.scratch, bench.order(shell("s", ":")))
    assert scratch.set_aside("nothing") == []
    for step in ("one", "two"):
        (scratch.work / f"junk-{step}").write_text("x")
        assert scratch.set_aside(step) == [f"junk-{step}"]
        assert list(scratch.work.iterdir()) == []
    assert sorted(path.relative_to(scratch.path).as_posix() for path in (scratch.path / "left").rglob("*")) == [
        "left/one", "left/one/junk-one", "left/two", "left/two/junk-two",
    ]  # fmt: skip


def test_removing_never_follows_a_link_out_of_the_scratch(bench: Bench, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    scratch = Scratch(bench.scratch, bench.order(shell("s", ":")))
    (scratch.work / "link").symlink_to(outside)
    (scratch.work / "link2").symlink_to(outside / "file")
    scratch.end()
    assert not scratch.path.exists()
    assert (outside / "file").read_text() == "precious"


def test_folders_that_a_step_closed_are_removed_too(bench: Bench) -> None:
    with ordinary_user() as folder:
        scratch = Scratch(folder / "scratch", bench.order(shell("s", ":")))
        inner = scratch.work / "a" / "b" / "c"
        inner.mkdir(parents=True)
        (scratch.work / "a" / "beside").mkdir()
        (inner / "file").touch()
        for each in (inner, inner.parent, inner.parent.parent, scratch.work):
            each.chmod(0)
        scratch.end()
        assert list((folder / "scratch").iterdir()) == []


def test_a_working_folder_that_a_step_closed_is_looked_into(bench: Bench) -> None:
    with ordinary_user() as folder:
        order = bench.order(shell("s", ":", FIRST))
        scratch = Scratch(folder / "scratch", order)
        (scratch.work / "first.txt").write_text("1")
        scratch.work.chmod(0o500)
        scratch.must_be_whole("s")
        step = order.steps[0]
        index = index_of(order, step, {})
        programs = LookingPrograms(order, step, scratch, Confiner(), lambda: "")
        made = check_outputs(order, step, index, {}, scratch, -1, folder, programs=programs)
        assert [each.name for each in made] == ["first.txt"]
        assert (scratch.path / "outputs/first.txt").stat().st_mode & 0o777 == 0o444
        scratch.end()


def test_folders_in_folders_are_removed_however_deep(bench: Bench) -> None:
    deep = "import os\nfor _ in range(5000):\n os.mkdir('d')\n open('f', 'w').close()\n os.chdir('d')"
    assert bench.run_one(bench.order(python("s", deep))).fate is Fate.PUBLISHED
    assert bench.leftovers() == []


def test_discarding_what_a_dead_process_left_finds_nothing_without_complaint(bench: Bench) -> None:
    order = bench.order(shell("s", ":"))
    Scratch.discard(bench.scratch, order)
    Scratch(bench.scratch, order)
    Scratch.discard(bench.scratch, order)
    assert list(bench.scratch.glob("*")) == []


@pytest.mark.parametrize("number", range(9))
def test_no_scratch_is_left_whenever_the_journal_cannot_be_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    written = JournalWriter.append
    entries: list[str] = []

    def full(self: JournalWriter, entry: Entry) -> None:
        entries.append(entry.entry)
        if len(entries) > number:
            raise SpoolAway("the journal cannot be written: No space left on device")
        written(self, entry)

    monkeypatch.setattr(JournalWriter, "append", full)
    frame = bench.put("frame.txt", b"input", type="text")
    order = bench.order(shell("one", "echo 1 > first.txt", FIRST), inputs=(frame,))
    with pytest.raises(SpoolAway, match="the journal cannot be written"):
        bench.run_one(order)
    said = ["started", "staged", "software", "step_began", "step_ended", "step_observed", "checked"]
    said += ["publishing", "done"]
    assert entries[: number + 1] == said[: number + 1]
    assert list(bench.scratch.glob("*")) == []


def test_no_scratch_is_left_by_a_full_spool(bench: Bench) -> None:
    with small_disk(bench.spool, size="64k") as disk:
        orders = [bench.order(shell("s", "echo 1 > first.txt", FIRST), unit=f"exposure={n}") for n in range(200)]
        with pytest.raises(SpoolAway, match="cannot be written: No space left on device"):
            bench.run(*orders)
        assert list(disk.glob("*.jsonl")) != []
    assert list(bench.scratch.glob("*")) == []


TEXTS = st.text(min_size=1, max_size=300)


@given(campaign=TEXTS, stage=TEXTS, unit=TEXTS, number=st.integers(1, 10_000))
def test_a_token_is_a_short_file_name_whatever_the_attempt(campaign: str, stage: str, unit: str, number: int) -> None:
    name = token(AttemptKey(campaign=campaign, stage=stage, unit=unit, number=number))
    assert len(name) <= 90
    assert name.isascii()
    assert set("/\0. ").isdisjoint(name)


def test_tokens_of_attempts_that_read_alike_differ() -> None:
    keys = [
        AttemptKey(campaign=c, stage="s", unit=u, number=1)
        for c in ("a", "b")
        for u in ("x=1,y=2", "x=1;y=2", "x" * 200)
    ]
    assert len({token(attempt) for attempt in keys}) == len(keys)
