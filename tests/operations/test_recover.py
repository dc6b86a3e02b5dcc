"""A database that was brought back from an older backup: recognised, and what can be had back is had back."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import String, cast, make_url, select, update
from sqlalchemy.orm import Session

from nightmill.backbone.database import Database
from nightmill.backbone.schema import AttemptRow, AuditRow, CampaignRow, ExecutionRow, FileRow, JobRow, ReplicaRow
from nightmill.backbone.work import leases
from nightmill.clock import utc_now
from nightmill.config.campaign import load_campaign
from nightmill.config.site import load_site
from nightmill.errors import RequestRefused
from nightmill.execution.journal import recorded_journals
from nightmill.model.error_rule import ErrorRule
from nightmill.model.origin import Origin
from nightmill.operations import errors, memory
from nightmill.operations.audit import PARTS, Ground
from nightmill.operations.drain import drain
from nightmill.operations.ingest.placement import Mode
from nightmill.operations.ingest.take_in import ingest
from nightmill.operations.recover import preview, recover
from nightmill.operations.rerun import rerun
from nightmill.operations.site import Site
from nightmill.operations.slice_work import SliceWork
from nightmill.operations.submit import submit
from nightmill.operations.turns import take_turn
from tests.support.observatory import deliver
from tests.support.postgres import PostgresServer

MORE_TYPES = """
  part: {template: "part_{exposure:04d}_c{campaign:04d}a{attempt:02d}.txt"}
  whole: {template: "whole_c{campaign:04d}a{attempt:02d}.txt"}
"""
PIPELINE: dict[str, Any] = {
    "pipeline": "sums",
    "version": "1",
    "stages": {
        "measure": {
            "per": ["exposure"],
            "inputs": {"frame": {"type": "raw_science"}},
            "steps": [
                {
                    "name": "measure",
                    "argv": ["sh", "{pipeline_dir}/measure.sh", "{inputs.frame}", "{outputs.part}"],
                    "inputs": ["frame"],
                    "outputs": {"part": {"type": "part"}},
                }
            ],
        },
        "add": {
            "per": [],
            "inputs": {"parts": {"type": "part", "source": {"stage": "measure"}, "max": None}},
            "steps": [
                {
                    "name": "add",
                    "argv": ["sh", "-c", 'cat "$@" > {outputs.whole}', "add", "{inputs.parts}"],
                    "inputs": ["parts"],
                    "outputs": {"whole": {"type": "whole"}},
                }
            ],
        },
    },
}
MEASURE = 'test -e "{folder}/broken" && exit 3\ncksum < "$1" > "$2"\nexit 5\n'


@dataclass
class World:
    """A site with a pipeline, and what brings its database back."""

    site: Site
    folder: Path
    restore: Callable[[], Site]
    backup: Callable[[], None]

    def submit(self, name: str) -> None:
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"campaign": name, "pipeline": "pipeline.yaml"}))
        submit(self.site, load_campaign(path), who="ada")

    def carry_out(self, name: str) -> None:
        for stage in PIPELINE["stages"]:
            for number in take_turn(self.site, name, stage).slices:
                with SliceWork(self.site, name, stage, number) as work:
                    while orders := work.issue(10):
                        work.record(list(work.worker.run(orders)))

    def facts(self) -> dict[str, Any]:
        """Return what is on record, without what tells when and by whom it was put there."""
        attempts = (
            select(
                CampaignRow.id, CampaignRow.name, JobRow.stage, JobRow.unit, JobRow.state, JobRow.attempts,
                AttemptRow.number, AttemptRow.state, AttemptRow.fate, AttemptRow.result, AttemptRow.order_sha256,
                AttemptRow.began_at, AttemptRow.ended_at, AttemptRow.error_id, cast(AttemptRow.rule_ids, String),
            )
            .join(JobRow, JobRow.campaign_id == CampaignRow.id)
            .outerjoin(AttemptRow, AttemptRow.job_id == JobRow.id)
        )  # fmt: skip
        files = select(FileRow.name, FileRow.sha256, FileRow.origin, ReplicaRow.path).outerjoin(ReplicaRow)
        with self.site.database.reading() as session:
            return {
                "attempts": sorted(map(tuple, session.execute(attempts)), key=repr),
                "files": sorted(map(tuple, session.execute(files)), key=repr),
            }

    def found(self) -> list[str]:
        return [str(each) for part in PARTS.values() for each in part(Ground(self.site, checksums=True))]


@pytest.fixture
def world(site: Site, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    """Give a site with three frames, and a way to bring its database back."""
    folder = site.config.directory
    types = folder / "file_types.yaml"
    types.write_text(types.read_text() + MORE_TYPES)
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(PIPELINE, sort_keys=False))
    (folder / "measure.sh").write_text(MEASURE.format(folder=folder))
    config = load_site(folder)
    site.database.close()
    url = config.database_url
    copies: list[str] = []
    opened: list[Site] = []

    def backup() -> None:
        made.site.database.close()
        if made.site.database.is_sqlite:
            source, target = (
                sqlite3.connect(path) for path in (url.removeprefix("sqlite:///"), tmp_path / "backup.db")
            )
            with closing(source), closing(target):
                source.backup(target)
        else:
            postgres: PostgresServer = request.getfixturevalue("postgres")
            copies.append(postgres.create(str(make_url(url).database)))

    def restore() -> Site:
        made.site.database.close()
        new = url
        if made.site.database.is_sqlite:
            path = Path(url.removeprefix("sqlite:///"))
            for each in path.parent.glob(f"{path.name}*"):
                each.unlink()
            shutil.copy(tmp_path / "backup.db", path)
        else:
            postgres: PostgresServer = request.getfixturevalue("postgres")
            new = postgres.url(copies[-1])
            yaml_file = folder / "nightmill.yaml"
            yaml_file.write_text(yaml_file.read_text().replace(url, new))
        made.site = Site(replace(config, database_url=new), Database(new))
        opened.append(made.site)
        return made.site

    made = World(Site(config, Database(url)), folder, restore, backup)
    opened.append(made.site)
    ingest(made.site, deliver(tmp_path / "night", 3), type="raw_science", origin=Origin.RAW, who="ada")
    rule = ErrorRule(name="warns", step="measure", exit=(5,), explanation="It is fine", action="accept")
    errors.add(made.site, [rule], why="seen")
    errors.switch(made.site, "warns", is_on=True, why="tried")
    yield made
    for each in opened:
        each.close()
    for name in copies:
        request.getfixturevalue("postgres").drop(name)


def lived(world: World) -> dict[str, Any]:
    """Fail in one campaign, be backed up, mend it, carry out another, and lose the database; return what was known."""
    world.submit("first")
    (world.folder / "broken").touch()
    world.carry_out("first")
    world.backup()
    (world.folder / "broken").unlink()
    rerun(world.site, "first", who="ada", why="mended")
    world.carry_out("first")
    world.submit("second")
    world.carry_out("second")
    assert world.found() == []
    known = world.facts()
    world.restore()
    return known


def test_what_was_published_since_the_backup_is_had_back(world: World) -> None:
    known = lived(world)
    drain(world.site)
    with pytest.raises(RequestRefused, match=r"is older than its spool .*: attempts up to \d+ were issued"):
        rerun(world.site, "first", who="ada", why="")
    with pytest.raises(RequestRefused, match=r"is older than its spool"):
        world.submit("third")
    with pytest.raises(RequestRefused, match=r"nightmill recover.* shows what can be had back"):
        world.carry_out("first")
    assert {line.partition(":")[0] for line in world.found()} >= {"second/measure/exposure=1/a01"}

    restored = world.facts()
    seen = preview(world.site)
    assert (seen.campaigns, seen.attempts["published"], seen.unplanned) == (["second"], 3, {"second": 4, "first": 1})
    assert world.facts() == restored, "a preview writes nothing"

    done = recover(world.site, who="ada", why="the disk failed")
    assert (done.refused, done.unplanned, done.campaigns) == ({}, {}, ["second"])
    assert world.facts() == known
    assert {row[13] is None for row in known["attempts"] if row[8] == "published" and row[2] == "measure"} == {False}
    assert world.found() == []
    assert preview(world.site).is_empty
    with world.site.database.reading() as session:
        (act,) = session.scalars(select(AuditRow).where(AuditRow.verb == "recover"))
    assert (act.who, act.why, act.detail["campaigns"]) == ("ada", "the disk failed", ["second"])
    assert rerun(world.site, "first", who="ada").left == 0
    world.submit("third")
    world.carry_out("third")
    assert world.found() == []


def test_numbers_are_not_given_again_where_nothing_can_be_had_back(world: World) -> None:
    lived(world)
    backbone = world.folder / "stores" / "backbone"
    for path in [*backbone.rglob("part_*_c0002a01.txt"), *backbone.rglob("part_*_c0001a02.txt")]:
        path.chmod(0o644)
        path.write_text("another's")
    done = recover(world.site, who="ada", why="the disk failed")
    whys = {place: why for place, why in done.refused.items() if place.startswith("second/measure")}
    assert len(whys) == 3
    assert all("has other bytes than its journal declares; bring these back" in why for why in whys.values())
    world.carry_out("first")
    world.carry_out("second")
    numbers = {(row[1], row[2], row[3]): row[6] for row in world.facts()["attempts"] if row[9]}
    assert numbers["first", "measure", "exposure=1"] == 3, "a02 was used by what is lost"
    assert numbers["second", "measure", "exposure=1"] == 2
    assert {path.read_text() for path in backbone.rglob("part_*_c0002a01.txt")} == {"another's"}


def test_a_campaign_that_was_not_kept_begins_above_the_numbers_that_it_gave(world: World) -> None:
    lived(world)
    shutil.rmtree(world.site.config.spool / memory.MEMORY / "campaigns")
    done = recover(world.site, who="ada", why="the disk failed")
    assert done.unplanned == {"second": 4}
    world.submit("second")
    world.carry_out("second")
    results = [row for row in world.facts()["attempts"] if row[1] == "second" and row[9]]
    assert {row[6] for row in results} == {2}
    again = recover(world.site, who="ada", why="its jobs are on record now")
    assert (again.attempts["published"], again.unplanned) == (4, {})
    assert world.found() == []


def test_an_input_that_is_not_on_record_is_taken_in_first(world: World, tmp_path: Path) -> None:
    world.backup()
    ingest(world.site, deliver(tmp_path / "more", 4)[3:], type="raw_science", origin=Origin.RAW, who="ada")
    world.submit("first")
    world.carry_out("first")
    known = world.facts()
    world.restore()
    done = recover(world.site, who="ada", why="the disk failed")
    assert done.unplanned == {"first": 5}
    assert "its input cam_0004.fits is not on record; take it in" in done.refused["first/measure/exposure=4/a01"]
    (frame,) = (world.folder / "stores" / "backbone").rglob("cam_0004.fits")
    ingest(world.site, [frame], type="raw_science", origin=Origin.RAW, who="ada", mode=Mode.IN_PLACE)
    done = recover(world.site, who="ada", why="the frame is back")
    assert (done.refused, done.unplanned) == ({}, {})
    assert {row[:2] for row in world.facts()["files"]} == {row[:2] for row in known["files"]}
    assert world.found() == []


def test_what_was_under_way_when_the_backup_was_made_is_had_back(world: World) -> None:
    world.submit("first")
    (number,) = take_turn(world.site, "first", "measure").slices
    with SliceWork(world.site, "first", "measure", number) as work:
        orders = work.issue(10)
        world.backup()
        work.record(list(work.worker.run(orders)))
    known = world.facts()
    world.restore()
    assert "files up to 10 were registered" in memory.older(world.site), "though no attempt was issued since"
    world.site.database.write(lambda session: leases.give_up(session, [1], now=utc_now()))
    assert {row[7] for row in world.facts()["attempts"]} == {"lost"}, "as a drain would, once its process is dead"
    assert recover(world.site, who="ada", why="the disk failed").attempts == {"published": 3}
    assert world.facts() == known
    assert world.found() == []


@pytest.mark.parametrize("forged", ["../../../first", "..", "a\0b", "a/b"])
def test_a_forged_journal_names_no_file_and_stops_nothing(world: World, forged: str) -> None:
    known = lived(world)
    path = list(recorded_journals(world.site.config.spool))[-1]
    text = path.read_text().replace('"campaign":"second"', f'"campaign":{json.dumps(forged)}')
    path.with_name("20990101T000000-far-1.jsonl").write_text(text)
    high = text.replace(json.dumps(forged), '"first"').replace('"number":1', f'"number":{2**40}')
    path.with_name("20990102T000000-far-1.jsonl").write_text(high)
    before = {each for each in world.folder.rglob("*") if "memory" not in each.parts}
    done = recover(world.site, who="ada", why="the disk failed")
    assert {why for why in done.refused.values()} == {
        "no campaign, job and number are like that: its journal is forged"
    }
    assert {each for each in world.folder.rglob("*") if "memory" not in each.parts} <= before | {world.folder}
    assert world.facts() == known


def test_rows_that_contradict_others_are_set_right(world: World) -> None:
    world.submit("first")
    world.carry_out("first")

    def spoil(session: Session) -> None:
        session.execute(update(ExecutionRow).values(state="running"))
        session.execute(update(JobRow).where(JobRow.stage == "measure").values(attempts=0))

    whole = world.facts()
    world.site.database.write(spoil)
    with world.site.database.writing() as session:
        session.execute(update(JobRow).where(JobRow.stage == "add").values(state="active"))
    kinds = {each.kind for part in PARTS.values() for each in part(Ground(world.site))}
    assert kinds == {"execution_runs", "job_number", "job_active", "job_result"}
    assert preview(world.site).rows == {"execution_runs": 4, "job_number": 3, "job_active": 1}
    assert recover(world.site, who="ada", why="rows disagree").rows["execution_runs"] == 4
    assert world.facts() == whole
    assert preview(world.site).is_empty
    with world.site.database.reading() as session:
        assert set(session.scalars(select(ExecutionRow.state))) == {"succeeded"}


def test_a_site_that_lost_nothing_is_told_so(world: World) -> None:
    world.submit("first")
    world.carry_out("first")
    assert preview(world.site).is_empty
    assert list(recorded_journals(world.site.config.spool))
    assert memory.older(world.site) == ""
