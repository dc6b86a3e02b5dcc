"""A process that records every journal of a spool: ``python -m tests.provenance.recorder URL SPOOL [backwards]``."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from nightmill.backbone.database import Database
from nightmill.execution.journal import journals, read_journal
from nightmill.model.report import fold, stacks
from provenance.record import record


def main(url: str, spool: Path, backwards: bool) -> None:
    """Record, when a line on stdin says so."""
    database = Database(url)
    with database.reading():
        print("ready", flush=True)
    sys.stdin.readline()
    for path in sorted(journals(spool), reverse=backwards):
        entries = read_journal(path).entries
        reports = sorted(fold(entries).values(), key=lambda report: str(report.attempt), reverse=backwards)
        now = datetime.now(UTC)
        database.write(partial(record, reports=reports, stacks=stacks(entries), now=now))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), "backwards" in sys.argv)
