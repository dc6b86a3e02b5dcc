"""A process that kills itself at a chosen moment: the victim of every test of crashes.

    python -m tests.support.victim run|recover FOLDER MOMENT COUNT
    python -m tests.support.victim ingest SITE FOLDER MODE [MOMENT COUNT]

It carries out the jobs of a folder, ends what a dead process left there, takes files into a site in lots of four, or
makes a flight check of one (:func:`flight`). It ends by SIGKILL after so many of MOMENT, counted from 1: ``entry`` or
``header`` of the journal; a method of the stager or, of an ingest, of what places files (``upload``, ``sync``,
``reveal``, ``settle``, ``discard``, ``remove``, ``unlink`` of a source); ``link`` (inside of a reveal, between its link
and its unlink); ``register`` (inside of the transaction) or ``commit`` of an ingest.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import obstore

from nightmill.backbone.database import Database
from nightmill.execution import jobs
from nightmill.execution.journal import JournalWriter, journals, read_journal
from nightmill.execution.recover import finish_dead
from nightmill.execution.stores import open_stager
from nightmill.execution.worker import Worker
from nightmill.model.node import NodeProfile
from nightmill.model.order import JobOrder
from nightmill.model.origin import Origin
from nightmill.operations import flight as flight_check
from nightmill.operations.ingest import lots, take_in
from nightmill.operations.ingest.placement import Mode, Placement
from nightmill.operations.site import open_site
from stagers.local import LocalStager
from tests.support.orders import rights_of

OF_JOBS: dict[str, tuple[Any, str]] = {
    name: (LocalStager, name) for name in ("upload", "reveal", "settle", "discard", "remove")
}
OF_INGEST: dict[str, tuple[Any, str]] = {
    "upload": (Placement, "upload"),
    "sync": (LocalStager, "sync"),
    "reveal": (Placement, "reveal"),
    "settle": (LocalStager, "settle"),
    "register": (lots, "register"),
    "commit": (Database, "write"),
    "unlink": (Placement, "remove_source"),
}


class Moment:
    """Counts what happens, and ends the process by SIGKILL when the moment has come."""

    def __init__(self, what: str, count: int) -> None:
        self._what, self._count = what, count
        self._seen: Counter[str] = Counter()

    def happened(self, what: str) -> None:
        self._seen[what] += 1
        if what == self._what and self._seen[what] == self._count:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, moments: dict[str, tuple[Any, str]]) -> None:
        """Have functions tell each call after it was done, and a reveal its link."""
        self.wrap("link", os, "link", inside=(LocalStager, "reveal"))
        for what, (owner, name) in moments.items():
            self.wrap(what, owner, name)

    def wrap(self, what: str, owner: Any, name: str, inside: tuple[Any, str] | None = None) -> None:
        """Have a function tell each call after it was done, or each inside of another."""
        call: Callable[..., Any] = getattr(owner, name)

        def called(*arguments: Any, **options: Any) -> Any:
            result = call(*arguments, **options)
            self.happened(what)
            return result

        if inside is None:
            setattr(owner, name, called)
            return
        around: Callable[..., Any] = getattr(*inside)

        def only_here(*arguments: Any, **options: Any) -> Any:
            setattr(owner, name, called)
            try:
                return around(*arguments, **options)
            finally:
                setattr(owner, name, call)

        setattr(*inside, only_here)


def main(mode: str, folder: Path, what: str, count: int) -> None:
    """Carry out the orders of a folder (``orders.jsonl``), or end what a dead process left there."""
    setattr(jobs, "GROUP_SECONDS", 60.0)  # noqa: B010 - both jobs in one group, however slow the machine is
    moment = Moment(what, count)
    moment.watch(OF_JOBS)
    orders = [JobOrder.model_validate_json(line) for line in (folder / "orders.jsonl").read_text().splitlines()]
    stagers = {name: LocalStager(store) for name, store in orders[0].stores.items()}
    if mode == "recover":
        for path in journals(folder / "spool"):
            left = read_journal(path)
            finish_dead(left, stagers, rights_of(left), scratch=folder / "scratch")
        return
    profile = NodeProfile(scratch=folder / "scratch", spool=folder / "spool")
    with Worker(profile, stagers, listener=lambda _entry: moment.happened("entry")) as worker:
        moment.happened("header")
        for report in worker.run(orders):
            print(report.attempt, report.fate)


def requests(folder: Path, count: int) -> None:
    """Carry out the orders of a folder, and die after so many requests to object storage."""
    moment = Moment("request", count)
    for name in ("put", "copy", "delete", "head", "get"):
        moment.wrap("request", obstore, name)
    orders = [JobOrder.model_validate_json(line) for line in (folder / "orders.jsonl").read_text().splitlines()]
    stagers = {name: open_stager(store, {}) for name, store in orders[0].stores.items()}
    with Worker(NodeProfile(scratch=folder / "scratch", spool=folder / "spool"), stagers) as worker:
        list(worker.run(orders))


def ingest(site: Path, folder: Path, mode: str, what: str = "", count: str = "0") -> None:
    """Take in a folder, once a line says so."""
    take_in.LOT = 4  # type: ignore[misc]
    Moment(what, int(count)).watch(OF_INGEST)
    with open_site(site) as opened:
        print("ready", flush=True)
        sys.stdin.readline()
        result = take_in.ingest(opened, [folder], type="raw_science", origin=Origin.RAW, who="ada", mode=Mode(mode))
    print(len(result.registered), len(result.skipped), len(result.refused))


def flight(site: Path, what: str, count: int) -> None:
    """Make a flight check of a site; ``append`` is an entry of its journal, ``note`` is written before all else."""
    with open_site(site) as opened:
        moment = Moment(what, count)
        moment.watch({**OF_JOBS, "append": (JournalWriter, "append"), "note": (flight_check, "sync_folder")})
        check = flight_check.begin(opened)
        for _what, part in check.parts():
            part()
        check.clear()


if __name__ == "__main__":
    if sys.argv[1] == "ingest":
        ingest(Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])
    else:
        main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
