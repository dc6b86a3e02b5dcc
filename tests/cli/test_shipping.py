"""Files between two sites of a catalogue: shipped before jobs begin, brought home when they are made, each once."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from alembic import command
from sqlalchemy import select

from flows.bring_home import bring_home_
from nightmill.backbone.catalogue.withdrawals import withdraw
from nightmill.backbone.schema import FileRow, JobRow
from nightmill.clock import utc_now
from nightmill.config.campaign import load_campaign
from nightmill.operations.rerun import rerun
from nightmill.operations.site import open_site
from nightmill.operations.slice_work import SliceWork
from nightmill.operations.submit import submit
from nightmill.operations.transport import bring as bringing
from nightmill.operations.turns import take_turn
from tests.cli.conftest import Nightmill
from tests.cli.test_bad_input import PIPELINE, RAW, TYPES
from tests.cli.two_sites import partner, raw, run, transfers
from tests.examples.campaigns import conduct, job_lines
from tests.support.mounts import fill, small_disk
from tests.support.observatory import FILE_TYPES, deliver, stored
from tests.support.sshd import running_sshd

FRAMES = 3
LITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""What has nothing to do with the database."""


@pytest.fixture
def sites(
    tmp_path: Path, nightmill: Nightmill, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path]:
    """Give two sites of one catalogue: ``a`` has three frames; ``b`` may ship them from there, and has a campaign."""
    monkeypatch.delenv("NIGHTMILL_SITE", raising=False)
    (tmp_path / "types.yaml").write_text(FILE_TYPES + TYPES)
    for name in "ab":
        called = nightmill("init", tmp_path / name, "--database", database_url, "--file-types", tmp_path / "types.yaml")
        assert called.code == 0, called.err
    a, b = tmp_path / "a", tmp_path / "b"
    deliver(tmp_path / "night", FRAMES)
    assert nightmill("ingest", tmp_path / "night", *RAW, "--site", a).code == 0
    partner(a, "b", b)
    partner(b, "a", a, ship=["raw_science"])
    (b / "pipeline.yaml").write_text(PIPELINE)
    (b / "far.yaml").write_text("campaign: far\npipeline: pipeline.yaml\nhome: {site: a, types: [count]}\n")
    return a, b


@pytest.mark.req("D15", "X31")
def test_what_a_plan_needs_is_shipped_once_before_its_jobs(sites: tuple[Path, Path], nightmill: Nightmill) -> None:
    a, b = sites
    size = sum(path.stat().st_size for path in (a / "stores").rglob("cam_*.fits"))
    planned = nightmill("plan", b / "far.yaml", "--site", b)
    assert f"to be shipped: 3 files, {size / 1e6:.1f} MB, from a:backbone into backbone" in planned.out
    told = {"store": "a:backbone", "into": "backbone", "files": 3, "size_bytes": size}
    assert nightmill("plan", b / "far.yaml", "--json", "--site", b).json["to_ship"] == [told]
    assert not list((b / "stores").rglob("cam_*")), "nothing comes for a plan"

    before = stored(a)
    assert run(b) == ["done"] * FRAMES
    assert stored(a) == before, "a site writes into its own stores alone"
    assert {name for name in before if "cam_" in name} <= stored(b).keys()
    found = transfers(nightmill, b)
    assert sorted(each["file_name"] for each in found) == [f"cam_{number:04d}.fits" for number in (1, 2, 3)]
    assert {(each["campaign"], each["purpose"], each["state"], each["from_site"], each["to_site"]) for each in found} \
        == {("far", "shipped", "done", "a", "b")}  # fmt: skip
    (b / "again.yaml").write_text("campaign: again\npipeline: pipeline.yaml\n")
    assert nightmill("plan", b / "again.yaml", "--json", "--site", b).json["to_ship"] == []
    assert run(b, "again") == ["done"] * FRAMES
    assert len(transfers(nightmill, b)) == FRAMES, "what is here is not fetched again"
    for folder, other in (a, "b"), (b, "a"):
        assert f"store {other}:backbone: " in (well := nightmill("doctor", "--site", folder).out)
        assert "answers; it is read, and never written" in well
        called = nightmill("doctor", "--deep", "--checksums", "--site", folder)
        assert called.code == 0, called.out


@pytest.mark.req("D16", "X31")
def test_outputs_come_home_once(
    sites: tuple[Path, Path], nightmill: Nightmill, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = sites
    run(b)
    dry = nightmill("bring-home", "--dry-run", "--json", "--site", a).json
    assert [(each["campaign"], each["site"], each["files"]) for each in dry] == [("far", "b", 3)]
    assert not (a / "stores" / "backbone" / "far").exists()
    monkeypatch.setenv("NIGHTMILL_SITE", str(a))
    with ThreadPoolExecutor(2) as pool:  # its runner and a person, at the same moment
        service, person = pool.submit(bring_home_.fn, str(a)), pool.submit(home, a)
        ended, came = service.result(), person.result()
    monkeypatch.delenv("NIGHTMILL_SITE")
    assert ended.type == "COMPLETED"
    assert f"{FRAMES - came} files came home, " in str(ended.message)
    made = {name: data for name, data in stored(b).items() if name.endswith(".txt")}
    assert {name: data for name, data in stored(a).items() if name.startswith("far/")} == made, "and no log"
    assert nightmill("bring-home", "far", "--site", a).out == "nothing is to come home\n"
    found = [each for each in transfers(nightmill, a) if each["purpose"] == "home"]
    assert len(found) == FRAMES
    assert {(each["state"], each["from_site"], each["to_site"]) for each in found} == {("done", "b", "a")}
    count = "SELECT count(*) AS files FROM file WHERE type = 'count'"
    assert nightmill("sql", count, "--json", "--site", a).json == [{"files": FRAMES}], (
        "the same files, with more copies"
    )
    name = Path(next(iter(made))).name
    [file] = nightmill("find", "--where", f"name == '{name}'", "--json", "--site", a).json
    assert [copy["store"] for copy in file["copies"]] == ["backbone", "b:backbone"]
    routes = nightmill("ops", "transfers", "far", "--json", "--site", a).json
    assert [(each["purpose"], each["source"], each["target"], each["files"]) for each in routes] == [
        ("home", "b:backbone", "a:backbone", 3),
        ("shipped", "a:backbone", "b:backbone", 3),
    ]
    assert routes[0]["size_bytes"] == sum(map(len, made.values()))
    assert "a:backbone" in nightmill("ops", "transfers", "--site", b).out
    assert nightmill("show", "far", "--json", "--site", a).json["transfers"] == routes
    assert ", from a:backbone to b:backbone" in nightmill("show", "far", "--site", b).out
    acts = nightmill("acts", "--json", "--site", a).json
    told = [each["subject"] for each in acts if each["verb"] == "bring-home"]
    assert told == ["far"] * (1 if came in (0, FRAMES) else 2), "an act of each that brought some"


def home(folder: Path) -> int:
    from nightmill.operations.transport.home import bring_home

    with open_site(folder) as site:
        return sum(each.files for each in bring_home(site, who="ada"))


@LITE
def test_a_partner_may_be_on_another_machine(sites: tuple[Path, Path], nightmill: Nightmill, tmp_path: Path) -> None:
    a, b = sites
    with running_sshd(tmp_path / "sshd") as sshd:
        partner(b, "a", a, url=sshd.url(a / "stores" / "backbone"), ship="all")
        assert run(b) == ["done"] * FRAMES
        sshd.stop()
    assert len(transfers(nightmill, b)) == FRAMES


@LITE
def test_a_site_names_what_may_be_shipped(sites: tuple[Path, Path], nightmill: Nightmill) -> None:
    a, b = sites
    partner(b, "a", a, ship=["raw_bias"])
    called = nightmill("plan", b / "far.yaml", "--site", b)
    assert called.code == 2
    assert "('partners' of nightmill.yaml may let raw_science be shipped from there)" in called.err
    partner(b, "a", a, ship=["raw_scence"], into="bakbone")
    called = nightmill("plan", b / "far.yaml", "--site", b)
    assert "partners.a.into: 'bakbone' is not a store that can be written" in called.err
    assert "(did you mean 'backbone'?)" in called.err
    partner(b, "a", a, ship=["raw_scence"])
    assert "partners.a.ship: 'raw_scence' is not a file type" in nightmill("plan", b / "far.yaml", "--site", b).err
    partner(b, "a", a, ship="all")
    partner(b, "A", a)
    told = "WRONG store A:backbone: the catalogue has no such site and store: see 'partners'"
    assert told in nightmill("doctor", "--site", b).out
    called = nightmill("plan", b / "far.yaml", "--set", "home.site=c", "--site", b)
    assert "home.site, command line: the catalogue has no site 'c' (there is a, b)" in called.err


def test_what_cannot_be_had_holds_the_jobs_that_need_it_and_a_rerun_ships_the_rest(
    sites: tuple[Path, Path], nightmill: Nightmill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bringing, "PAUSES_SECONDS", (0.0, 0.01))
    a, b = sites
    good, gone = raw(a, 1).read_bytes(), raw(a, 2)
    raw(a, 1).chmod(0o600)
    raw(a, 1).write_bytes(good[:-1] + b"!")
    gone.rename(a / "gone")
    assert sorted(run(b)) == ["done", "held", "held"]
    assert [path.name for path in (b / "stores").rglob("cam_000?.fits")] == ["cam_0003.fits"]
    assert not list((b / "stores").rglob("*.part")) + list((b / "scratch").iterdir())
    shown = nightmill("status", "far", "--site", b).out
    assert "cam_0001.fits could not be fetched" in shown
    assert "in store 'a:backbone' has" in shown
    assert "the catalogue says" in shown
    assert "cam_0002.fits could not be fetched" in shown
    assert "submit or rerun it once that can be had" in shown
    failed = {each["file_name"]: each for each in transfers(nightmill, b) if each["state"] == "failed"}
    assert sorted(failed) == ["cam_0001.fits", "cam_0002.fits"]
    assert {each["size_bytes"] for each in failed.values()} == {0}
    assert "it is not there" in failed["cam_0002.fits"]["evidence"]

    raw(a, 1).write_bytes(good)
    (a / "gone").rename(gone)
    with open_site(b) as site:
        rerun(site, "far", who="bob", why="mended")
        conduct(site, "far")
        assert [str(line.state) for line in job_lines(site, "far")] == ["done"] * FRAMES
    done = [each["file_name"] for each in transfers(nightmill, b) if each["state"] == "done"]
    assert sorted(done) == [f"cam_{number:04d}.fits" for number in (1, 2, 3)], "each once"


@LITE
def test_a_source_that_is_away_is_tried_again(
    sites: tuple[Path, Path], nightmill: Nightmill, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = sites
    monkeypatch.setattr(bringing, "PAUSES_SECONDS", (0.0, *[0.5] * 60))
    (a / "stores" / "backbone").rename(a / "away")

    def mend() -> None:
        while not list((b / "spool").glob(f"{bringing.LOCKS}/*")):  # somebody tries
            time.sleep(0.01)
        time.sleep(0.5)
        (a / "away").rename(a / "stores" / "backbone")

    mending = threading.Thread(target=mend)
    mending.start()
    assert run(b) == ["done"] * FRAMES
    mending.join()
    found = transfers(nightmill, b)
    assert {each["state"] for each in found} == {"done"}
    assert all(each["tries"] > 1 and "does not exist" in each["evidence"] for each in found)


def test_campaigns_that_need_the_same_ship_it_once(sites: tuple[Path, Path], nightmill: Nightmill) -> None:
    _a, b = sites
    (b / "near.yaml").write_text("campaign: near\npipeline: pipeline.yaml\n")

    def issued(name: str) -> int:
        with open_site(b) as site, SliceWork(site, name, "count", 0) as work:
            return len(work.issue(1000))

    with open_site(b) as site:
        for name in ("far", "near"):
            submit(site, load_campaign(b / f"{name}.yaml"), who="bob")
            take_turn(site, name, "count")
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(issued, ("far", "near"))) == [FRAMES, FRAMES]
    assert len(transfers(nightmill, b)) == FRAMES


@LITE
def test_no_room_leaves_nothing_half(
    sites: tuple[Path, Path], nightmill: Nightmill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bringing, "PAUSES_SECONDS", (0.0,))
    _a, b = sites
    with small_disk(tmp_path / "small", size="1m") as small:
        path = b / "nightmill.yaml"
        config = yaml.safe_load(path.read_text())
        config["stores"]["landing"] = {"url": str(small)}
        config["partners"]["a"]["into"] = "landing"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        assert nightmill("init", b).code == 0
        fill(small)
        assert run(b) == ["held"] * FRAMES
        assert [each.name for each in small.rglob("*") if each.is_file()] == ["filler"]
        assert "no space left" in nightmill("status", "far", "--site", b).out.lower()
        (small / "filler").unlink()
        assert run(b) == ["done"] * FRAMES
        assert len(list(small.rglob("cam_*.fits"))) == FRAMES


@LITE
def test_killed_in_the_midst_goes_on_with_the_rest(
    sites: tuple[Path, Path], nightmill: Nightmill, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before a transfer is on record: what stands there is taken; what is half there is replaced."""
    _a, b = sites
    monkeypatch.setattr(bringing, "AT_ONCE", 1)
    with open_site(b) as site:
        submit(site, load_campaign(b / "far.yaml"), who="bob")
        take_turn(site, "far", "count")

        def die(*_: object, **__: object) -> None:
            os._exit(9)

        if not (child := os.fork()):
            monkeypatch.setattr(bringing, "_write", die)
            with open_site(b) as own, SliceWork(own, "far", "count", 0) as work:
                work.issue(1000)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert len(list((b / "stores").rglob("cam_000?.fits"))) == 1
    assert transfers(nightmill, b) == []
    folder = raw(b, 1).parent
    (b / "scratch" / ".transport-2").write_bytes(b"half")
    half = folder / f".transport-2.{'0' * 16}.part"
    half.write_bytes(b"half")
    called = nightmill("doctor", "--deep", "--site", b)
    assert called.code == 1
    assert "an upload is left of a transfer between sites that did not end" in called.out
    half.unlink()
    assert run(b) == ["done"] * FRAMES
    found = transfers(nightmill, b)
    assert sorted(each["file_name"] for each in found) == [f"cam_{number:04d}.fits" for number in (1, 2, 3)]
    assert [each["evidence"] for each in found if each["evidence"]] == [bringing.STOOD]
    assert not list((b / "scratch").iterdir())


@LITE
def test_a_copy_that_is_lost_is_shipped_again_by_a_rerun(sites: tuple[Path, Path], nightmill: Nightmill) -> None:
    _a, b = sites
    assert run(b) == ["done"] * FRAMES
    whole = raw(b, 1).read_bytes()
    raw(b, 1).unlink()
    raw(b, 2).chmod(0o600)
    raw(b, 2).write_bytes(whole[:100])
    (b / "again.yaml").write_text("campaign: again\npipeline: pipeline.yaml\n")
    assert sorted(run(b, "again")) == ["done", "failed", "failed"]
    assert run(b, "again") == ["done"] * FRAMES
    assert raw(b, 1).read_bytes() == whole
    assert len(transfers(nightmill, b)) == FRAMES + 2
    assert nightmill("doctor", "--deep", "--checksums", "--site", b).code == 0


def test_a_file_that_is_withdrawn_meanwhile_is_not_shipped(sites: tuple[Path, Path], nightmill: Nightmill) -> None:
    a, b = sites
    with open_site(b) as site:
        submit(site, load_campaign(b / "far.yaml"), who="bob")
        called = nightmill("withdraw", "cam_0002.fits", "--why", "clouds", "--site", a)
        assert "cam_0002.fits is an input of far/count/exposure=2" in called.err, "the other site's plan counts"
        with site.database.writing() as session:  # as if both had been decided at the same moment
            [file_id] = session.scalars(select(FileRow.id).where(FileRow.name == "cam_0002.fits"))
            withdraw(session, [(file_id, None)], who="ada", why="clouds", now=utc_now())
    assert sorted(run(b)) == ["done", "done", "held"]
    assert "cam_0002.fits was withdrawn at" in nightmill("status", "far", "--site", b).out
    assert not list((b / "stores").rglob("cam_0002.fits"))
    with open_site(b) as site:
        with site.database.engine.connect() as connection:
            command.downgrade(site.database._alembic(connection), "0018")
        site.database.create()
        with site.database.reading() as session:
            assert session.scalars(select(JobRow.held_by).where(JobRow.state == "held")).all() == ["exclusion"]
    assert transfers(nightmill, b) == []


@LITE
def test_calibrations_that_an_operator_names_are_those_that_come(
    sites: tuple[Path, Path], nightmill: Nightmill, tmp_path: Path
) -> None:
    a, b = sites
    for number, path in enumerate(deliver(tmp_path / "biases", 2), start=1):
        path.rename(path.with_name(f"bias_{number}.fits"))
    called = nightmill("ingest", tmp_path / "biases", "--type", "raw_bias", "--origin", "raw", "--site", a)
    assert called.code == 0, called.err
    partner(b, "a", a, ship=["raw_science", "raw_bias"])
    bias = "bias: {type: raw_bias, match: [], where: \"name == 'bias_1.fits'\"}"
    (b / "pipeline.yaml").write_text(PIPELINE.replace("    steps:", f"      {bias}\n    steps:", 1))
    (b / "override.yaml").write_text("why: the other is noisy\ninputs: {bias: {where: \"name == 'bias_2.fits'\"}}\n")
    with open_site(b) as site:
        campaign = load_campaign(b / "far.yaml", overrides=[b / "override.yaml"])
        submit(site, campaign, who="bob")
        conduct(site, "far")
    assert sorted(path.name for path in (b / "stores").rglob("bias_*")) == ["bias_2.fits"]


@LITE
def test_each_site_drains_its_own_spool(sites: tuple[Path, Path], nightmill: Nightmill) -> None:
    a, b = sites
    (a / "pipeline.yaml").write_text(PIPELINE)
    (a / "own.yaml").write_text("campaign: own\npipeline: pipeline.yaml\n")
    with open_site(a) as site:
        submit(site, load_campaign(a / "own.yaml"), who="ada")
        take_turn(site, "own", "count")
        with SliceWork(site, "own", "count", 0) as work:
            [order] = work.issue(1)
            list(work.worker.run([order]))
            journals = sorted(path.name for path in (a / "spool").glob("*.jsonl"))
            assert journals
            assert run(b) == ["done"] * FRAMES
            assert nightmill("record", "--site", b).code == 0
            assert sorted(path.name for path in (a / "spool").glob("*.jsonl")) == journals
