"""Limits of the transfers with a store: what operators say stands in the database, and workers hear of it."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nightmill.backbone.audit import acts
from nightmill.config.site import SITE_FILE
from nightmill.errors import RequestRefused
from nightmill.execution import transfers as places
from nightmill.execution.host import this_host
from nightmill.execution.journal import SpoolAway
from nightmill.execution.transfers import limits_file, said_limits
from nightmill.model.origin import Origin
from nightmill.model.report import JobReport
from nightmill.operations import memory, transfers
from nightmill.operations.drain import drain
from nightmill.operations.ingest import lots
from nightmill.operations.ingest.take_in import IngestResult, ingest
from nightmill.operations.site import Site, open_site
from nightmill.operations.transfers import StoreLimit, StoreLimited, limit_transfers, store_limits
from tests.operations.test_slices import Slice, carry_out
from tests.support.busy import BusyStager
from tests.support.observatory import deliver, stored

WHY = "its disks are slow"


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "LOOK_SECONDS", 0.02)


def limit(site: Site, number: int | None, store: str = "backbone") -> StoreLimited:
    return limit_transfers(site, store, number, why=WHY, who="mara")


def take_in(site: Site, folder: Path) -> IngestResult:
    return ingest(site, [folder], type="raw_science", origin=Origin.RAW, who="ada")


def said(site: Site) -> dict[str, int]:
    return dict(said_limits(site.config.spool).transfers)


def test_a_word_holds_until_who_says_what_the_site_s_file_says(site: Site) -> None:
    config = site.config.directory / SITE_FILE
    config.write_text(config.read_text().replace("  backbone:\n", "  backbone:\n    transfers: 4\n"))
    with open_site(site.config.directory) as again:
        assert store_limits(again) == [StoreLimit("backbone", 4), StoreLimit("quicklook", 0)]
        assert str(store_limits(again)[0]) == "at most 4 transfers at a time from each host, as nightmill.yaml says"
        assert again.profile.transfers == {"backbone": 4}
        assert limit(again, 4) == StoreLimited(StoreLimit("backbone", 4), False)
        for number in (1, 0):
            assert limit(again, number) == StoreLimited(StoreLimit("backbone", number, "mara", WHY), True)
            assert not limit(again, number).changed
            assert (said(again), again.transfers.most("backbone")) == ({"backbone": number}, number)
            time.sleep(0.03)
        assert limit(again, 4) == StoreLimited(StoreLimit("backbone", 4), True)
        assert said(again) == {}
        with again.database.reading() as session:
            told = [(act.subject, act.who, act.detail) for act in acts(session, verb="limit")]
        assert told == [
            ("backbone", "mara", {"transfers": 1, "written": 4, "before": 4}),
            ("backbone", "mara", {"transfers": 0, "written": 4, "before": 1}),
            ("backbone", "mara", {"transfers": 4, "written": 4, "before": 0}),
        ]


def test_what_makes_no_sense_is_refused_and_not_on_record(lite_site: Site) -> None:
    for number, store, message in (
        (2, "backbones", "no store named 'backbones' (did you mean 'backbone'?); there are backbone, quicklook"),
        (-1, "backbone", "--transfers -1 is below 0; give how many run at a time, or 0 for no limit"),
        (None, "backbone", "nothing is said of how store 'backbone' is to be limited; give --transfers N, or 0"),
    ):
        with pytest.raises(RequestRefused) as caught:
            limit(lite_site, number, store)
        assert message in str(caught.value)
    with lite_site.database.reading() as session:
        assert [act.verb for act in acts(session)] == ["init"]


def test_a_drain_tells_what_was_not_told_or_is_told_otherwise(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(transfers, "tell", lambda _: None)  # as where it is killed
        limit(site, 2)
    for content in (None, b"{", b'{"transfers": {"backbone": 7, "other": 1}}'):
        if content is not None:
            limits_file(site.config.spool).write_bytes(content)
        drain(site)
        assert said(site) == {"backbone": 2}
    before = limits_file(site.config.spool).stat().st_ino
    drain(site)
    assert limits_file(site.config.spool).stat().st_ino == before, "what is right is left alone"


def test_where_workers_cannot_be_told_the_word_stands_and_that_is_said(
    lite_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(limits_file(lite_site.config.spool)))

    with monkeypatch.context() as patch:
        patch.setattr(memory, "write", full)
        with pytest.raises(SpoolAway, match=r"transfers\.json: No space left on device"):
            limit(lite_site, 2)
    assert store_limits(lite_site)[0].transfers == 2
    assert not limit(lite_site, 2).changed
    assert said(lite_site) == {"backbone": 2}, "the same again tells them"


def test_of_several_at_once_one_word_stands_and_is_told(site: Site) -> None:
    def insist(number: int) -> None:
        with open_site(site.config.directory) as own:
            for turn in range(4):
                limit(own, number + turn)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(insist, (10, 20, 30), timeout=120))
    assert said(site) == {"backbone": store_limits(site)[0].transfers}


def test_a_slice_that_runs_hears_of_a_limit_and_of_its_end(database_url: str, tmp_path: Path) -> None:
    slice_ = Slice.of(tmp_path, database_url, "seconds 0", "seconds 0")
    with slice_.observatory.open() as site, slice_.work(site) as work:
        running = carry_out(work)
        first = next(running)
        limit(site, 1)
        place = places.Transfers(site.config.spool, this_host().name, {"backbone": 1}).take("backbone")
        assert first.published
        assert place is not None
        with place, ThreadPoolExecutor(1) as pool:
            time.sleep(0.05)
            rest = pool.submit(lambda: list[JobReport](running))
            time.sleep(0.3)
            assert not rest.done()
            limit(site, 0)
            assert [len(report.published) > 0 for report in rest.result(60)] == [True]


def test_an_ingest_takes_a_place_for_each_copy(
    lite_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lots, "LARGE_BYTES", 0)  # so that several are copied at a time
    stager = BusyStager(lite_site.config.stores["backbone"])
    vars(lite_site)["stagers"] = {"backbone": stager}
    nights = []
    for number, most in ((1, 1), (2, 2)):
        limit(lite_site, number)
        time.sleep(0.03)
        stager.most = 0
        nights.append(tmp_path / f"night{number}")
        for path in deliver(nights[-1], 6, OBJECT=f"field {number}"):
            path.rename(path.with_name(path.name.replace("cam_0", f"cam_{number}")))
        assert len(take_in(lite_site, nights[-1]).registered) == 6
        assert stager.most == most


def test_an_ingest_that_waits_is_interrupted(lite_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lots, "LARGE_BYTES", 0)
    deliver(tmp_path / "night", 3)
    limit(lite_site, 1)
    place = lite_site.transfers.take("backbone")
    assert place is not None
    with place:
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            take_in(lite_site, tmp_path / "night")
    assert stored(lite_site.config.directory) == {}
    assert len(take_in(lite_site, tmp_path / "night").registered) == 3
