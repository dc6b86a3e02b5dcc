"""``doctor --flight``: each part of a site is tried in truth, what is wrong is named, and nothing stays."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from nightmill.backbone.database import Database
from nightmill.errors import RequestRefused
from nightmill.execution.proc import all_in
from nightmill.execution.scratch import token
from nightmill.operations.audit import PARTS, Ground
from nightmill.operations.flight import FlightFailed, begin, clean
from nightmill.operations.flight.note import attempt_of
from nightmill.operations.site import Site
from stagers.local import LocalStager
from tests.cli.conftest import Nightmill, nightmill
from tests.support.backbone import dump
from tests.support.forks import forked
from tests.support.mounts import fill, small_disk
from tests.support.victim import flight as killed_check

__all__ = ["nightmill"]

DATABASE_FILES = ("nightmill.db", "nightmill.db-wal", "nightmill.db-shm")


def everything(folder: Path) -> set[str]:
    """Return the paths of all that a site has, but for its SQLite database and the folder for the notes of checks."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    return {path for path in found if not path.startswith(DATABASE_FILES)} - {"spool/flight"}


@pytest.mark.req("F27")
def test_a_tiny_job_goes_through_every_part_and_nothing_stays(nightmill: Nightmill, site: Site) -> None:
    """F27: what a site needs is tried before anything starts."""
    folder = site.config.directory
    before, rows = everything(folder), dump(site.database)
    told = nightmill("doctor", "--flight", "--json", "--site", folder)
    flown = {each["what"]: each for each in told.json if each["what"].startswith("flight ")}
    stores = [f"flight store {name}" for name in site.config.stores]
    parts = ["before", "database", "spool", "scratch", "job", "Prefect", "after"]
    assert sorted(flown) == sorted([*stores, *(f"flight {part}" for part in parts)])
    assert all(each["well"] and each["wall_seconds"] >= 0 for each in flown.values())
    assert flown["flight database"]["seen"].endswith(
        "a file was registered and undone, and a transaction was committed"
    )
    assert "a second write was refused" in flown["flight store backbone"]["seen"]
    assert flown["flight Prefect"]["seen"] == "does not run; 'nightmill server start' starts it"
    assert everything(folder) == before
    assert dump(site.database) == rows
    assert clean(site) == []


def test_what_is_wrong_is_named_and_the_rest_is_tried_all_the_same(nightmill: Nightmill, lite_site: Site) -> None:
    folder = lite_site.config.directory
    (folder / "stores" / "backbone").rename(folder / "stores" / "away")
    told = nightmill("doctor", "--flight", "--json", "--site", folder)
    wrong = {each["what"]: each for each in told.json if not each["well"] and each["what"].startswith("flight ")}
    assert (told.code, sorted(wrong)) == (1, ["flight after", "flight job", "flight store backbone"])
    for each in wrong.values():
        assert f"the folder {folder}/stores/backbone of store 'backbone' does not exist" in each["seen"]
        assert each["remedy"] == "is its disk mounted? 'nightmill init' makes the folders of new stores"
    (folder / "stores" / "away").rename(folder / "stores" / "backbone")
    assert nightmill("doctor", "--flight", "--site", folder).code == 0


def test_a_scratch_without_room_fails_its_part_and_the_job(nightmill: Nightmill, lite_site: Site) -> None:
    scratch = lite_site.config.scratch
    scratch.rmdir()
    with small_disk(scratch, size="1m,mode=700"):
        fill(scratch)
        told = nightmill("doctor", "--flight", "--site", lite_site.config.directory)
    wrong = [line for line in told.out.splitlines() if line.startswith("WRONG flight ")]
    assert [line.split(":")[0] for line in wrong][:1] == ["WRONG flight scratch"]
    assert "No space left on device" in wrong[0]
    assert any(line.startswith("WRONG flight job: ") for line in wrong)


class Overwriting(LocalStager):
    """A store whose names are given to whoever comes last."""

    def reveal(self, path: str, *, attempt: str) -> None:
        """Give a name, also where it is given."""
        self.remove(path)
        super().reveal(path, attempt=attempt)


class Rotting(LocalStager):
    """A store that gives back other bytes."""

    def fetch(self, path: str, target: Path) -> int:
        """Copy a file, and change a byte."""
        size_bytes = super().fetch(path, target)
        target.chmod(0o600)
        data = target.read_bytes()
        target.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        return size_bytes


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Overwriting, r"store 'backbone': a second file took the name of the first; it does not write exclusively"),
        (Rotting, r"store 'backbone': what is fetched is not what was sent; see its network"),
    ],
)
def test_a_store_that_breaks_its_promise_is_found(lite_site: Site, kind: type[LocalStager], message: str) -> None:
    lite_site.__dict__["stagers"] = {name: kind(store) for name, store in lite_site.config.stores.items()}
    check = begin(lite_site)
    with pytest.raises(FlightFailed, match=message):
        dict(check.parts())["store backbone"]()
    check.clear()


def test_a_database_that_cannot_be_written_fails_its_part(lite_site: Site) -> None:
    read_only = Database(f"sqlite:///file:{lite_site.database.file}?mode=ro&uri=true")
    with Site(lite_site.config, read_only) as site:
        check = begin(site)
        with pytest.raises(Exception, match="cannot be written"):
            dict(check.parts())["database"]()
        check.clear()


@pytest.mark.parametrize(
    ("what", "count"),
    [
        *[("note", 1), ("upload", 1), ("upload", 2), ("link", 1), ("reveal", 1), ("settle", 1), ("remove", 1)],
        *[("upload", 5), ("reveal", 3), ("append", 2), ("append", 3), ("append", 5), ("link", 3)],
    ],
)
def test_what_a_killed_check_leaves_is_removed_by_the_next(lite_site: Site, what: str, count: int) -> None:
    folder = lite_site.config.directory
    before, rows = everything(folder), dump(lite_site.database)
    assert forked(killed_check, folder, what, count) == -signal.SIGKILL
    assert everything(folder) > before
    [name] = [path.stem for path in (lite_site.config.spool / "flight").glob("*.json")]
    found = [each for part in PARTS.values() for each in part(Ground(lite_site))]
    assert found == [], "an audit knows whose it is"
    assert clean(lite_site) == [name]
    assert everything(folder) == before
    assert dump(lite_site.database) == rows
    assert all_in(lite_site.config.scratch / name / token(attempt_of(name))) == []


def test_a_check_that_is_under_way_is_left_alone(lite_site: Site) -> None:
    first, second = begin(lite_site), begin(lite_site)
    assert clean(lite_site) == []
    for check in (first, second):
        for _what, part in check.parts():
            part()
    first.clear()
    assert {path.stem for path in (lite_site.config.spool / "flight").glob("*.json")} == {second.note.name}
    assert second.scratch.is_dir()
    second.clear()


def test_what_a_check_of_another_host_left_is_removed_after_a_day(lite_site: Site) -> None:
    check = begin(lite_site)
    note = lite_site.config.spool / "flight" / f"{check.note.name}.json"
    elsewhere = check.note.owner.model_copy(update={"host": "node7"})
    note.write_text(check.note.model_copy(update={"owner": elsewhere}).model_dump_json())
    (note.parent / "nightmill-flight-torn.new").write_text("{")
    assert clean(lite_site) == []
    for path in note.parent.iterdir():
        os.utime(path, (0, 0))
    assert clean(lite_site) == [check.note.name]
    assert list(note.parent.iterdir()) == []


def test_only_operators_make_one(lite_site: Site) -> None:
    strict = replace(lite_site, config=replace(lite_site.config, operators=("somebody",)))
    with pytest.raises(RequestRefused, match="'nightmill doctor --flight' is for the operators of site"):
        begin(strict)
    assert not (strict.config.spool / "flight").exists()
