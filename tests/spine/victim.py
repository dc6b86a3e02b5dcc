"""A process that carries out jobs, or recovers them, and kills itself at a chosen moment.

    python -m tests.spine.victim run|recover FOLDER MOMENT COUNT

MOMENT is ``entry`` (after so many journal entries), a method of the stager (``upload``, ``reveal``, ``remove``,
``discard``, ``settle``: after so many calls), or ``link`` (inside of a reveal, between its link and its unlink).
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from nightmill.execution import jobs
from nightmill.execution.journal import journals, read_journal
from nightmill.execution.recover import finish_dead
from nightmill.execution.worker import Worker
from nightmill.model.node import NodeProfile
from nightmill.model.order import JobOrder
from nightmill.model.store import Store
from stagers.local import LocalStager
from tests.support.orders import rights_of


class Moment:
    """Counts what happens, and ends the process by SIGKILL when the moment has come."""

    def __init__(self, what: str, count: int) -> None:
        self._what, self._count = what, count
        self._seen: Counter[str] = Counter()

    def happened(self, what: str) -> None:
        self._seen[what] += 1
        if what == self._what and self._seen[what] == self._count:
            os.kill(os.getpid(), signal.SIGKILL)


class DoomedStager(LocalStager):
    """Tells each call after it was done."""

    def __init__(self, store: Store, moment: Moment) -> None:
        super().__init__(store)
        self._moment = moment

    def upload(self, source: Path, path: str, *, attempt: str, durable: bool = True) -> None:
        super().upload(source, path, attempt=attempt, durable=durable)
        self._moment.happened("upload")

    def reveal(self, path: str, *, attempt: str) -> None:
        link = os.link

        def link_and_tell(source: Path, target: Path) -> None:
            link(source, target)
            self._moment.happened("link")

        os.link = link_and_tell  # type: ignore[assignment]
        try:
            super().reveal(path, attempt=attempt)
        finally:
            os.link = link
        self._moment.happened("reveal")

    def settle(self, paths: Iterable[str]) -> None:
        super().settle(paths)
        self._moment.happened("settle")

    def discard(self, path: str, *, attempt: str) -> None:
        super().discard(path, attempt=attempt)
        self._moment.happened("discard")

    def remove(self, path: str) -> None:
        super().remove(path)
        self._moment.happened("remove")


def main(mode: str, folder: Path, what: str, count: int) -> None:
    """Carry out the orders of a folder (``orders.jsonl``), or end what a dead process left there."""
    setattr(jobs, "GROUP_SECONDS", 60.0)  # noqa: B010 - both jobs in one group, however slow the machine is
    moment = Moment(what, count)
    orders = [JobOrder.model_validate_json(line) for line in (folder / "orders.jsonl").read_text().splitlines()]
    stagers = {name: DoomedStager(store, moment) for name, store in orders[0].stores.items()}
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


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
