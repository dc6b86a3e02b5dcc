"""``nightmill recover``, as it is typed once the database was brought back from an older backup."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from nightmill.errors import RequestRefused
from nightmill.operations.site import open_site
from tests.cli.conftest import Nightmill, take_in
from tests.cli.test_operators import PIPELINE, TYPES
from tests.examples.campaigns import run_again, run_campaign


def copy(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as from_, closing(sqlite3.connect(target)) as to:
        from_.backup(to)


def test_a_database_that_is_older_is_told_and_recovered(folder: Path, nightmill: Nightmill, tmp_path: Path) -> None:
    (folder / "file_types.yaml").write_text((folder / "file_types.yaml").read_text() + TYPES)
    (folder / "pipeline.yaml").write_text(PIPELINE)
    (folder / "first.yaml").write_text("campaign: first\npipeline: pipeline.yaml\n")
    take_in(nightmill, tmp_path / "night", 2)
    copy(tmp_path / "nightmill.db", tmp_path / "backup.db")
    with open_site(folder) as opened:
        run_campaign(opened, folder / "first.yaml")
    assert nightmill("recover").out == "the database knows everything that the spool tells\n"
    made = nightmill("find", "--type", "copy", "--json").json
    for name in ("nightmill.db", "nightmill.db-wal", "nightmill.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    copy(tmp_path / "backup.db", tmp_path / "nightmill.db")

    status = nightmill("status")
    assert "the database is older than its spool: attempts up to 2 were issued, and it knows them up to 0" in status.err
    doctor = nightmill("doctor")
    assert (doctor.code, "WRONG memory of the spool: the database is older" in doctor.out) == (1, True)
    deep = nightmill("doctor", "--deep")
    assert "WRONG database_older: first/copy/exposure=1/a01: a journal that was recorded tells" in deep.out
    with open_site(folder) as opened, pytest.raises(RequestRefused, match="is older than its spool"):
        run_campaign(opened, folder / "first.yaml")

    told = nightmill("recover")
    assert told.code == 0
    assert "can be had back: campaign first" in told.out
    assert "nothing was done; to do it: nightmill recover --yes --why '...'" in told.out
    refused = nightmill("recover", "--yes")
    assert (refused.code, "--yes wants to know why; add --why and what happened" in refused.err) == (2, True)
    done = nightmill("recover", "--yes", "--why", "the disk failed")
    assert done.code == 0, done.err
    assert "had back: 2 attempts that ended as published" in done.out
    again = nightmill("find", "--type", "copy", "--json").json
    times = {"registered_at", "registered_by", "copies"}
    before, after = ({each["name"]: {**each, **dict.fromkeys(times)} for each in found} for found in (made, again))
    assert after == before
    assert "older" not in nightmill("status").err
    deep = nightmill("doctor", "--deep")
    assert deep.code == 0, deep.out
    with open_site(folder) as opened:
        run_again(opened, "first")
