"""An input with several copies: the first that works is staged, and the journal tells which were passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightmill.model.fate import Fate
from nightmill.model.journal import Staged
from nightmill.model.order import Copy, OrderInput
from nightmill.model.states import AttemptState
from tests.support.orders import Bench, output, shell

CONTENT = b"counts"


@pytest.fixture
def frame(bench: Bench) -> OrderInput:
    """Give an input with copies in three stores; checksums are verified in the last two."""
    own = bench.put("frame.fits", CONTENT, role="frame", type="image")
    for store in ("archive", "tape"):
        folder = bench.add_store(store, verify="checksum")
        (folder / "copy.fits").write_bytes(CONTENT)
    also = tuple(Copy(store=store, path="copy.fits") for store in ("archive", "tape"))
    return own.model_copy(update={"also": also})


def spoil(bench: Bench, store: str, how: str) -> None:
    path = Path(bench.root / "stores" / store / ("raw/frame.fits" if store == "backbone" else "copy.fits"))
    if how == "gone":
        path.unlink()
    elif how == "shorter":
        path.write_bytes(CONTENT[:-1])
    else:
        path.write_bytes(b"COUNTS")


def staged(bench: Bench) -> Staged:
    [entry] = [entry for entry in bench.entries() if isinstance(entry, Staged)]
    return entry


STEP = shell("copy", "cp ../inputs/frame.fits made.txt", output("made", "made.txt"), inputs=("frame.fits",))


def test_the_first_copy_is_taken_where_it_is_good(bench: Bench, frame: OrderInput) -> None:
    assert bench.run_one(bench.order(STEP, inputs=(frame,))).state is AttemptState.PUBLISHED
    assert staged(bench).passed_over == ()


@pytest.mark.parametrize("how", ["gone", "shorter"])
def test_the_next_is_taken_and_the_journal_says_why(bench: Bench, frame: OrderInput, how: str) -> None:
    spoil(bench, "backbone", how)
    assert bench.run_one(bench.order(STEP, inputs=(frame,))).state is AttemptState.PUBLISHED
    [passed] = staged(bench).passed_over
    assert (passed.name, passed.store) == ("frame.fits", "backbone")
    said = {"gone": "is gone", "shorter": "has 5 bytes in store 'backbone', the catalogue says 6"}
    assert said[how] in passed.why
    assert (bench.root / "stores/backbone/products/made.txt").read_bytes() == CONTENT


def test_a_copy_with_other_bytes_is_passed_over_where_its_store_is_verified(bench: Bench, frame: OrderInput) -> None:
    spoil(bench, "backbone", "gone")
    spoil(bench, "archive", "changed")
    assert bench.run_one(bench.order(STEP, inputs=(frame,))).state is AttemptState.PUBLISHED
    assert [passed.store for passed in staged(bench).passed_over] == ["backbone", "archive"]
    assert "has checksum" in staged(bench).passed_over[1].why
    assert (bench.root / "stores/backbone/products/made.txt").read_bytes() == CONTENT


def test_a_store_that_is_not_open_here_is_passed_over(bench: Bench, frame: OrderInput) -> None:
    spoil(bench, "backbone", "gone")
    del bench.stagers["archive"]
    assert bench.run_one(bench.order(STEP, inputs=(frame,))).state is AttemptState.PUBLISHED
    assert "store 'archive' of the order is not open here" in staged(bench).passed_over[1].why


def test_where_no_copy_works_the_job_fails_as_the_first_did_and_names_all(bench: Bench, frame: OrderInput) -> None:
    spoil(bench, "backbone", "gone")
    spoil(bench, "archive", "changed")
    spoil(bench, "tape", "shorter")
    report = bench.run_one(bench.order(STEP, inputs=(frame,)))
    assert report.fate is Fate.INPUT_MISSING
    for part in ("is gone", "has checksum", "has 5 bytes in store 'tape'"):
        assert part in report.evidence
    assert [(told.store, told.fate) for told in report.passed_over] == [
        ("backbone", Fate.INPUT_MISSING),
        ("archive", Fate.INPUT_CORRUPT),
        ("tape", Fate.INPUT_CORRUPT),
    ]
    assert report.staged_at is None
    assert bench.stored() == []
    assert bench.leftovers() == []
