"""Killed after every request to object storage: nothing half visible, nothing left, and published or lost as one."""

from __future__ import annotations

import signal
from pathlib import Path

import obstore

from nightmill.execution.journal import journals, read_journal
from nightmill.execution.recover import finish_dead
from nightmill.model.report import fold
from nightmill.model.states import AttemptState
from nightmill.model.store import Store
from stagers.conformance import publish
from stagers.objects import PROBE, ObjectStager
from tests.support.forks import forked
from tests.support.orders import Bench, output, rights_of, shell
from tests.support.seaweed import SeaweedServer
from tests.support.victim import requests

MOST_REQUESTS = 60


def bench_in(folder: Path, seaweed: SeaweedServer) -> tuple[Bench, ObjectStager]:
    """Make a bench whose backbone is a bucket, with an order of one job."""
    bench = Bench(folder)
    frame = bench.put("frame.txt", b"pixels", type="text")
    store = Store(name="backbone", url=seaweed.url(seaweed.new_prefix()), verify="checksum")
    stager = ObjectStager(store)
    publish(stager, folder / "stores/backbone/raw/frame.txt", "raw/frame.txt")
    bench.stores["backbone"], bench.stagers["backbone"] = store, stager
    step = shell("copy", "cat ../inputs/frame.txt ../inputs/frame.txt > twice.txt", output("twice", "twice.txt"))
    step = step.model_copy(update={"inputs": ("frame.txt",)})
    (folder / "orders.jsonl").write_text(bench.order(step, inputs=(frame,)).model_dump_json() + "\n")
    return bench, stager


def test_killed_after_every_request(tmp_path: Path, seaweed: SeaweedServer) -> None:
    ends = []
    for count in range(1, MOST_REQUESTS):
        bench, stager = bench_in(tmp_path / str(count), seaweed)
        code = forked(requests, bench.root, count)
        for path in journals(bench.spool):
            journal = read_journal(path)
            finish_dead(journal, bench.stagers, rights_of(journal), scratch=bench.scratch)
        [report] = fold(bench.entries()).values()
        left = {path for batch in obstore.list(stager.endpoint.client) for path in _paths(batch)}
        stored = {file.path for file in report.published} | {"raw/frame.txt"}
        assert left - {PROBE} == stored, f"killed after request {count}"
        if report.state is AttemptState.PUBLISHED:
            twice = next(file for file in report.published if file.name == "twice.txt")
            assert (twice.size_bytes, twice.sha256) == (12, stager.sha256(twice.path))
        ends.append(str(report.state))
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert ends == sorted(ends), "lost before its intent, and published from then on"
    assert (ends[0], ends[-1]) == ("lost", "published")
    assert ends.count("published") == 9, "eight requests, and the end"


def _paths(batch: object) -> list[str]:
    return [found["path"] for found in batch]  # type: ignore[attr-defined]
