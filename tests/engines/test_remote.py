"""What drives a carrier, where the engine is away, refuses, forgets, or is told apart from the worker's own end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from nightmill import __version__
from nightmill.clock import utc_now
from nightmill.engines.dask import Dask
from nightmill.engines.dask_clusters import DaskOptions
from nightmill.engines.following import Followed
from nightmill.engines.processes import Processes, ProcessOptions
from nightmill.errors import EngineAway, RequestRefused
from nightmill.execution import publish
from nightmill.execution.context import Superseded
from nightmill.execution.dispatches import DispatchBroken, Dispatched, dispatches, send_out
from nightmill.execution.journal import SpoolAway, read_journal
from nightmill.execution.owner import owner_of, this_process
from nightmill.execution.scratch import Scratch
from nightmill.execution.stores import open_stagers
from nightmill.execution.worker import Worker, main
from nightmill.model.dispatch import Dispatch, Ending, Standing
from nightmill.model.fate import Fate
from nightmill.model.node import NewSoftware, SoftwarePolicy
from nightmill.model.order import JobOrder
from nightmill.testing.engines import LONG, Ground, InTheBackground, fates, until, worker_of


class Moody(Processes):
    """Is away at first, loses an answer, and then forgets what it runs."""

    def __init__(self, *, away: int = 0, lost_answers: int = 0, forgets: bool = False) -> None:
        super().__init__("moody", ProcessOptions(workers=2))
        self.away, self.lost_answers, self.forgets = away, lost_answers, forgets

    def submit(self, dispatches: Sequence[Dispatch]) -> list[str]:
        if self.away:
            self.away -= 1
            raise EngineAway("nobody answers")
        handles = super().submit(dispatches)
        if self.lost_answers:
            self.lost_answers -= 1
            raise EngineAway("the line was cut")
        return handles

    def look(self, handles: Sequence[str]) -> dict[str, Standing]:
        return {} if self.forgets else super().look(handles)


class Unwilling(Processes):
    def submit(self, dispatches: Sequence[Dispatch]) -> list[str]:
        raise RequestRefused("the queue 'long' is closed", remedy="use another")


def told(ground: Ground, carrier: Processes, orders: Sequence[JobOrder]) -> tuple[dict[str, Fate | None], list[str]]:
    said: list[str] = []
    with ground.remote(carrier) as (remote, _):
        remote._tell = said.append
        fates = {report.attempt.unit: report.fate for report in remote.run(orders)}
    return fates, said


def test_an_engine_that_is_away_is_asked_again_and_that_is_told_once(ground: Ground) -> None:
    fates, said = told(ground, Moody(away=3), [ground.order(1)])
    assert fates == {"exposure=1": Fate.PUBLISHED}
    assert said == [
        "engine 'tested' cannot be asked: nobody answers; what it carries out goes on",
        "engine 'tested' answers again",
    ]


def test_an_answer_that_is_lost_begins_nothing_twice(ground: Ground) -> None:
    order = ground.order(1)
    fates, _said = told(ground, Moody(lost_answers=2), [order])
    time.sleep(1.0)  # the other two workers
    assert fates == {"exposure=1": Fate.PUBLISHED}
    assert ground.begun() == {order.attempt: 1}


def test_an_engine_that_takes_nothing_fails_who_asks_and_leaves_nothing_to_begin(ground: Ground) -> None:
    with pytest.raises(RequestRefused, match="the queue 'long' is closed; use another"):
        told(ground, Unwilling("unwilling", ProcessOptions()), [ground.order(1)])
    [left] = dispatches(ground.spool)
    assert left.ending is not None
    assert left.ending.fate is Fate.CANCELLED
    assert main(["--dispatch", str(left.folder)]) == 0
    assert ground.stored() == []


def test_a_worker_with_software_that_is_not_let_in_ends_one_job_and_no_other_is_sent_out(ground: Ground) -> None:
    orders = [ground.order(number) for number in (1, 2, 3)]
    policy = SoftwarePolicy(new=NewSoftware.GATE)
    with ground.remote(Processes("tested", ProcessOptions(workers=1))) as (remote, worker):
        worker.profile = worker.profile.model_copy(update={"software": policy})
        reports = list(remote.run(orders))
        unfit = remote.unfit
        assert remote.unbegun == [], "its journal is to be recorded"
    assert fates(reports)["exposure=1"] is Fate.CANCELLED
    assert Fate.PUBLISHED not in fates(reports).values()
    assert ground.begun() == {orders[0].attempt: 1}
    assert re.search(
        r"engine 'tested' cannot begin jobs: step 'write' is not started: its software \w{12} is new", unfit
    )


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_worker_that_an_engine_forgot_is_waited_for_as_long_as_it_lives(ground: Ground, is_killed: bool) -> None:
    gate = ground.folder / "gate"
    order = ground.order(1, f"while ! test -e {gate}; do sleep 0.05; done; echo done > {{out}}")
    carrier, said = Moody(), list[str]()
    with ground.remote(carrier) as (remote, _):
        remote._tell = said.append
        running = InTheBackground(lambda: remote.run([order]))
        _dispatched, pid = worker_of(ground, order.attempt)
        carrier.forgets = True
        until(lambda: said, "it tells")
        if is_killed:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        else:
            gate.touch()
        [report] = running.join()
    host = this_process().host
    [told] = said
    assert f"whose worker began on {host}: its end is waited for; where {host} will not come back, say so: " in told
    if is_killed:
        gone = f"worker process {pid} on {host} is gone, and engine 'tested' knows no more; on {host}, while it was "
        assert report.fate is Fate.LOST
        assert report.evidence.startswith(gone), report.evidence
    else:
        assert report.fate is Fate.PUBLISHED


def test_what_an_engine_forgot_before_a_worker_began_it_never_begins(ground: Ground) -> None:
    class Deaf(Moody):
        def submit(self, dispatches: Sequence[Dispatch]) -> list[str]:
            return ["x" for _ in dispatches]

    with ground.remote(Deaf(forgets=True)) as (remote, _):
        reports = [report for number in (1, 2) for report in remote.run([ground.order(number)])]
    for left in dispatches(ground.spool):
        assert main(["--dispatch", str(left.folder)]) == 0
    assert fates(reports) == dict.fromkeys(["exposure=1", "exposure=2"], Fate.LOST)
    assert ground.stored() == []
    report = reports[1]
    assert report.evidence == "engine 'tested' does not know it, and no worker had begun it; before the attempt began"


def test_a_spool_that_fails_fails_who_waits_and_who_comes_after(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = ground.order(1, "sleep 1; echo done > {out}")
    with ground.remote(Processes("tested", ProcessOptions())) as (remote, _):
        running = InTheBackground(lambda: remote.run([order]))
        dispatched, _pid = worker_of(ground, order.attempt)
        monkeypatch.setattr(Followed, "news", lambda _: Path("/nowhere").stat())
        with pytest.raises(SpoolAway, match="dispatches cannot be followed: /nowhere: No such file"):
            running.join()
        with pytest.raises(SpoolAway):
            list(remote.run([ground.order(2)]))
        assert remote.under_way == [order.attempt, ground.order(2).attempt]
    until(lambda: dispatched.is_over, "it goes on")
    assert ground.stored() == ["made_1_a1.txt"]


def test_dispatches_are_told_as_done_once_each_of_their_attempts_is_recorded(ground: Ground) -> None:
    orders = [ground.order(number) for number in range(4)]
    with ground.remote(Processes("tested", ProcessOptions())) as (remote, _):
        for chunk in (orders[:2], orders[2:3], orders[3:]):
            assert len(list(remote.run(chunk))) == len(chunk)
        assert remote.recorded([orders[0].attempt]) == []
        assert len(remote.recorded(order.attempt for order in orders[1:])) == 3


def test_who_ends_a_worker_at_its_engine_is_told_apart_from_nightmill(ground: Ground) -> None:
    order = ground.order(1, LONG)
    with ground.remote(Processes("tested", ProcessOptions())) as (remote, _):
        running = InTheBackground(lambda: remote.run([order]))
        _dispatched, pid = worker_of(ground, order.attempt)
        os.kill(pid, signal.SIGTERM)
        [report] = running.join()
    assert report.fate is Fate.ENDED_OUTSIDE
    assert "was told to end by somebody who is not nightmill (SIGTERM)" in report.evidence
    assert "while it was" in report.evidence


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nowhere://x", "no stager named 'nowhere'"),
        ("${NOWHERE}/x", "store 'backbone'"),
    ],
)
def test_a_worker_whose_host_lacks_something_begins_nothing_and_no_job_fails(
    ground: Ground, url: str, told: str
) -> None:
    order = ground.order(1)
    stores = {"backbone": ground.store.model_copy(update={"url": url})}
    with ground.remote(Processes("tested", ProcessOptions())) as (remote, _):
        assert list(remote.run([order.model_copy(update={"stores": stores})])) == []
        host = this_process().host
        assert remote.unfit.startswith(
            f"engine 'tested' cannot begin jobs: a worker on host {host} cannot begin: {told}"
        )
        assert url[2:9].lower() in remote.unfit.lower()
    assert ground.begun() == {}


class Told(Processes):
    """Its workers have a shell between them and Python, which ends otherwise than a worker can."""

    def __init__(self, script: str) -> None:
        super().__init__("tested", ProcessOptions())
        self.script = script

    def _start(self, dispatch: Dispatch) -> str:
        (dispatch.folder / "output").write_text("node said this\n")
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", self.script], os.environ)
        owner = owner_of(pid)
        self._running[owner.model_dump_json()] = owner
        return owner.model_dump_json()


@pytest.mark.parametrize("script", ["exit 127", "exit 1"])
def test_a_worker_that_ends_with_an_error_before_it_began_is_told_with_what_it_said(
    ground: Ground, script: str
) -> None:
    with ground.remote(Told(script)) as (remote, _):
        assert list(remote.run([ground.order(1), ground.order(2)])) == []
        assert remote.unfit.startswith("engine 'tested' cannot begin jobs: ")
        assert remote.unfit.endswith(" and said: node said this")
    [left] = dispatches(ground.spool)
    assert main(["--dispatch", str(left.folder)]) == 0, "and nobody begins it afterwards"
    assert ground.begun() == {}


def test_a_worker_that_is_killed_before_it_began_is_lost_and_proves_nothing_of_its_host(ground: Ground) -> None:
    with ground.remote(Told("kill -KILL $$")) as (remote, _):
        [report] = remote.run([ground.order(1)])
        assert (report.fate, remote.unfit) == (Fate.LOST, "")


def test_a_worker_that_does_not_see_the_spool_says_so(ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dispatch", str(ground.folder / "away" / "dispatched" / "x")]) == 3
    told = capsys.readouterr().err
    assert (
        f"does not see the spool: {ground.folder}/away/dispatched is not a folder there; mount the site's spool" in told
    )


AHEAD = """
import datetime, nightmill.clock
nightmill.clock.utc_now = lambda: datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
"""


@pytest.fixture
def ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the clocks of workers be an hour ahead."""
    (tmp_path / "early").mkdir()
    (tmp_path / "early" / "sitecustomize.py").write_text(AHEAD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "early"))


@pytest.mark.usefixtures("ahead")
def test_a_clock_that_is_an_hour_ahead_is_told_once_of_its_host(ground: Ground) -> None:
    said: list[str] = []
    with ground.remote(Processes("tested", ProcessOptions())) as (remote, _):
        remote._tell = said.append
        for number in (1, 2):
            [report] = remote.run([ground.order(number)])
            assert report.fate is Fate.PUBLISHED
    [told] = said
    assert re.fullmatch(
        rf"the clock of host {this_process().host} is (3[56]\d\d) s ahead of that of this host; what its workers tell"
        " is on record with its times",
        told,
    )
    first, _second = dispatches(ground.spool)
    assert first.taken is not None
    assert (first.taken.nightmill, first.taken.python.split(" at ")[1]) == (__version__, sys.executable)


def test_a_worker_that_is_given_up_before_its_files_have_names_gives_them_none(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its intent is durable, then it is ended: whoever does that finds the intent, and alone has what waits."""
    dispatched = sent(ground, ground.order(1))

    with Worker(ground.profile, open_stagers({"backbone": ground.store}, {}), dispatched=dispatched) as worker:
        monkeypatch.setattr(publish, "settle", lambda *_: pytest.fail("it has published"))
        append = worker.journal.append

        def append_and_end(entry: object) -> None:
            append(entry)  # type: ignore[arg-type]
            if getattr(entry, "entry", "") == "publishing":
                dispatched.end(Ending(at=utc_now(), fate=Fate.NODE_FAILED, evidence="silent"))

        monkeypatch.setattr(worker.journal, "append", append_and_end)
        with pytest.raises(Superseded, match="was ended meanwhile"):
            list(worker.run([ground.order(1)]))
    assert ground.stored() == []
    assert [entry.entry for entry in read_journal(worker.journal.path).entries][-1] == "publishing"


def test_what_is_written_of_a_dispatch_first_stays(ground: Ground) -> None:
    dispatched = sent(ground, ground.order(1))
    mine, other = this_process(), this_process().model_copy(update={"pid": 1})
    assert dispatched.take("first", mine, utc_now()).journal == "first"
    assert dispatched.take("second", other, utc_now()).journal == "first"
    assert dispatched.end(Ending(at=utc_now(), evidence="first")).evidence == "first"
    assert dispatched.end(Ending(at=utc_now(), fate=Fate.LOST, evidence="second")).evidence == "first"
    dispatched.stop("first")
    dispatched.stop("second")
    assert dispatched.told_to_stop == "first"
    dispatched.adopt(other)
    dispatched.adopt(mine)
    assert dispatched.driver == mine
    assert [path.name for path in dispatched.folder.iterdir() if path.name.startswith(".")] == []
    dispatched.remove()
    assert dispatched.is_over
    assert list(dispatches(ground.spool)) == []


def test_a_damaged_file_of_a_dispatch_is_named(ground: Ground) -> None:
    dispatched = sent(ground, ground.order(1))
    (dispatched.folder / "ended").write_text("{}")
    with pytest.raises(DispatchBroken, match=r"/ended: it is not what it should be: Field required; mend the file"):
        _ = dispatched.ending


def test_a_worker_takes_a_dispatch_or_orders_with_a_profile(ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ([], ["orders.jsonl"], ["orders.jsonl", "--dispatch", "x"], ["--dispatch", "x", "--profile", "y"]):
        with pytest.raises(SystemExit):
            main(wrong)
    assert "a dispatch has its own" in capsys.readouterr().err
    assert main(["--dispatch", str(ground.folder / "none")]) == 0, "one that is gone is over"


def test_a_worker_removes_the_scratch_of_one_that_died_on_its_host_and_ends_its_step(ground: Ground) -> None:
    """Where the driver is on another host, nobody else ever comes there; what was kept, or lives, stays."""
    scratch = ground.profile.scratch
    left = sent(ground, ground.order(1, LONG))
    dead = subprocess.Popen([sys.executable, "-P", *left.dispatch.argv])
    worker_of(ground, ground.order(1).attempt)
    steps = [child.pid for child in psutil.Process(dead.pid).children()]
    kept = Scratch(scratch, ground.order(2))
    kept.end(keep=True)
    other = Scratch(scratch, ground.order(3))
    assert main(["--dispatch", str(sent(ground, ground.order(4)).folder)]) == 0
    assert len(list(scratch.iterdir())) == 3, "it lives"
    dead.kill()
    dead.wait()
    assert main(["--dispatch", str(sent(ground, ground.order(5)).folder)]) == 0
    assert {path for path in scratch.iterdir() if path.is_dir()} == {kept.path, other.path}
    until(lambda: not any(map(psutil.pid_exists, steps)), "its step has ended")
    other.end()


def test_nothing_of_distributed_is_imported_for_who_does_not_use_it() -> None:
    code = "import sys, nightmill.engines.dask, nightmill.operations.slice_work; print('distributed' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_dask_that_is_not_there_is_away() -> None:
    with pytest.raises(ValueError, match="an address or a number of workers"):
        DaskOptions(address="tcp://x:1", workers=1)
    carrier = Dask("dask", DaskOptions(address="tcp://127.0.0.1:9"))
    with pytest.raises(EngineAway, match=r"Dask at tcp://127.0.0.1:9: .*; see whether its scheduler runs"):
        carrier.look(["here key"])
    carrier.close()


def sent(ground: Ground, *orders: JobOrder) -> Dispatched:
    return send_out(ground.spool, orders, ground.profile, engine="tested")
