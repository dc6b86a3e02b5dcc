"""The scratch folder of an attempt."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightmill.errors import RequestRefused
from nightmill.execution.scratch import Scratch, token
from nightmill.model.order import AttemptKey
from tests.support.mounts import small_disk
from tests.support.orders import Bench, shell


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
