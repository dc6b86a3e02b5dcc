"""An attempt has one writer: who claims it first."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nightmill.errors import RequestRefused
from nightmill.execution.claims import CLAIMS, claim_of, end_claims
from nightmill.execution.journal import JournalWriter
from nightmill.execution.owner import this_process
from nightmill.model.order import AttemptKey
from tests.support.orders import Bench, output, shell

ATTEMPTS = [AttemptKey(campaign="night1", stage="science", unit=f"exposure={number}", number=1) for number in range(20)]


def test_of_many_that_claim_at_once_each_attempt_has_one(tmp_path: Path) -> None:
    writers = [JournalWriter(tmp_path) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        refused = list(pool.map(lambda writer: writer.claim(ATTEMPTS), writers))
    for attempt in ATTEMPTS:
        claim = claim_of(tmp_path, attempt)
        assert claim is not None
        assert claim.owner == this_process()
        has = [writer.name for writer, others in zip(writers, refused, strict=True) if attempt not in others]
        assert has == [claim.journal]
    for writer in writers:
        writer.close()


def test_ones_own_claim_is_no_obstacle_and_ends_with_ones_release(tmp_path: Path) -> None:
    with JournalWriter(tmp_path) as one, JournalWriter(tmp_path) as other:
        assert one.claim(ATTEMPTS[:2]) == one.claim(ATTEMPTS[:1]) == {}
        assert list(other.claim(ATTEMPTS[:3])) == ATTEMPTS[:2]
        one.release_claims()
        assert other.claim(ATTEMPTS[:3]) == {}
        other.release_claims()
        assert list((tmp_path / CLAIMS).iterdir()) == []


def test_the_claims_of_those_that_have_ended_are_removed(tmp_path: Path) -> None:
    with JournalWriter(tmp_path) as one, JournalWriter(tmp_path) as other:
        one.claim(ATTEMPTS[:3])
        other.claim(ATTEMPTS[3:5])
        end_claims(tmp_path, ended=lambda claim: claim.journal == one.name)
        assert [claim_of(tmp_path, attempt) is None for attempt in ATTEMPTS[:5]] == [True] * 3 + [False] * 2


def test_a_file_system_without_hard_links_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links")

    monkeypatch.setattr(os, "link", no_link)
    with JournalWriter(tmp_path) as one, JournalWriter(tmp_path) as other:
        assert one.claim(ATTEMPTS[:2]) == {}
        assert list(other.claim(ATTEMPTS[:3])) == ATTEMPTS[:2]


def test_an_order_that_another_carries_out_is_refused_and_nothing_begun(bench: Bench) -> None:
    order = bench.order(shell("s", "echo 1 > a.txt", output("a", "a.txt")))
    with JournalWriter(bench.spool) as other:
        other.claim([order.attempt])
        with pytest.raises(
            RequestRefused,
            match=rf"{order.attempt} is carried out by process {os.getpid()} on .*, in the journal {other.name}.jsonl;"
            " an attempt has one writer: wait for its end, or run the order for yourself",
        ):
            bench.run_one(order)
    assert (bench.stored(), bench.leftovers(), bench.entries()) == ([], [], [])
