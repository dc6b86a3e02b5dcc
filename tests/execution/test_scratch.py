"""The scratch folder of an attempt."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightmill.errors import RequestRefused
from nightmill.execution.gate import check_outputs
from nightmill.execution.scratch import Scratch, token
from nightmill.model.fate import Fate
from nightmill.model.order import AttemptKey
from tests.execution.failing import FIRST
from tests.support.mounts import small_disk
from tests.support.orders import Bench, python, shell


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
        assert list(bench.scratch.iterdir()) == []


def test_what_is_kept_is_moved_and_read_only(bench: Bench) -> None:
    scratch = Scratch(bench.scratch, bench.order(shell("s", ":")))
    (scratch.work / "own.cat").write_text("x")
    kept = scratch.keep(scratch.work / "own.cat", "unique.cat")
    assert kept == scratch.outputs / "unique.cat"
    assert kept.stat().st_mode & 0o777 == 0o444
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
    scratch.remove()
    assert not scratch.path.exists()
    assert (outside / "file").read_text() == "precious"


@contextmanager
def ordinary_user() -> Iterator[Path]:
    """Be a user whom permissions bind, with a folder of their own."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        before = os.geteuid()
        os.seteuid(before or 65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(before)


def test_folders_that_a_step_closed_are_removed_too(bench: Bench) -> None:
    with ordinary_user() as folder:
        scratch = Scratch(folder / "scratch", bench.order(shell("s", ":")))
        inner = scratch.work / "a" / "b" / "c"
        inner.mkdir(parents=True)
        (scratch.work / "a" / "beside").mkdir()
        (inner / "file").touch()
        for each in (inner, inner.parent, inner.parent.parent, scratch.work):
            each.chmod(0)
        scratch.remove()
        assert list((folder / "scratch").iterdir()) == []


def test_a_working_folder_that_a_step_closed_is_looked_into(bench: Bench) -> None:
    with ordinary_user() as folder:
        order = bench.order(shell("s", ":", FIRST))
        scratch = Scratch(folder / "scratch", order)
        (scratch.work / "first.txt").write_text("1")
        scratch.work.chmod(0o500)
        assert [made.name for made in check_outputs(order, order.steps[0], scratch, -1)] == ["first.txt"]
        scratch.remove()


def test_what_cannot_be_removed_is_no_failure(bench: Bench) -> None:
    deep = "import os\nfor _ in range(2000):\n os.mkdir('d')\n os.chdir('d')"
    assert bench.run_one(bench.order(python("s", deep))).fate is Fate.PUBLISHED
    subprocess.run(["rm", "-r", bench.scratch], check=True)


def test_discarding_what_a_dead_process_left_finds_nothing_without_complaint(bench: Bench) -> None:
    order = bench.order(shell("s", ":"))
    Scratch.discard(bench.scratch, order)
    Scratch(bench.scratch, order)
    Scratch.discard(bench.scratch, order)
    assert list(bench.scratch.iterdir()) == []


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
