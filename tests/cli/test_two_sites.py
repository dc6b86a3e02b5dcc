"""Two sites that share a catalogue: each sees all that there is, and touches what is its own."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from nightmill.backbone.database import Database
from nightmill.backbone.schema import LeaseRow, SiteRow
from nightmill.backbone.sites import claim, this_site
from nightmill.backbone.work import leases
from nightmill.clock import utc_now
from nightmill.config.campaign import load_campaign
from nightmill.errors import RequestRefused
from nightmill.execution.owner import this_process
from nightmill.model.states import JobState
from nightmill.operations import memory
from nightmill.operations.drain import drain
from nightmill.operations.lost_hosts import declare_lost
from nightmill.operations.recover import preview, recover
from nightmill.operations.rerun import rerun
from nightmill.operations.site import Site, open_site
from nightmill.operations.slice_work import SliceWork
from nightmill.operations.submit import submit
from nightmill.operations.turns import take_turn
from tests.cli.conftest import Nightmill
from tests.cli.test_bad_input import PIPELINE, RAW, TYPES
from tests.examples.campaigns import conduct, job_lines
from tests.support.observatory import FILE_TYPES, deliver

Make = Callable[[str], Path]


@pytest.fixture
def make(tmp_path: Path, nightmill: Nightmill, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Give what makes a site of a name, in the one catalogue."""
    monkeypatch.delenv("NIGHTMILL_SITE", raising=False)
    (tmp_path / "types.yaml").write_text(FILE_TYPES + TYPES)

    def made(name: str) -> Path:
        folder = tmp_path / name
        called = nightmill("init", folder, "--database", database_url, "--file-types", tmp_path / "types.yaml")
        assert called.code == 0, called.err
        return folder

    return made


@pytest.fixture
def folders(make: Make, nightmill: Nightmill, tmp_path: Path) -> tuple[Path, Path]:
    """Give two sites; the first has exposure 1 and campaign ``one`` of it, the second exposure 2 and ``two``."""
    first, second, *_ = deliver(tmp_path / "night", 2)
    for name, folder, raw, number in (("one", make("a"), first, 1), ("two", make("b"), second, 2)):
        (folder / "pipeline.yaml").write_text(PIPELINE)
        (folder / "own.yaml").write_text(f"campaign: {name}\npipeline: pipeline.yaml\nwhere: exposure == {number}\n")
        (folder / "all.yaml").write_text("campaign: all\npipeline: pipeline.yaml\n")
        called = nightmill("ingest", raw, *RAW, "--site", folder)
        assert called.code == 0, called.err
    return tmp_path / "a", tmp_path / "b"


def run(folder: Path) -> str:
    """Carry out the campaign of a site's own file, and return its name."""
    with open_site(folder) as site:
        campaign = load_campaign(folder / "own.yaml")
        submit(site, campaign, who="ada")
        conduct(site, campaign.name)
        assert [line.state for line in job_lines(site, campaign.name)] == [JobState.DONE]
    return campaign.name


def products(folder: Path) -> set[str]:
    return {path.name for path in (folder / "stores" / "backbone").rglob("*") if path.is_file()}


def test_both_work_in_one_catalogue(folders: tuple[Path, Path], nightmill: Nightmill) -> None:
    assert [run(folder) for folder in folders] == ["one", "two"]
    a, b = folders
    assert {name for name in products(a) & products(b)} == {name for name in products(a) if name.endswith(".tar")}
    assert any("c0001a01" in name for name in products(a))
    assert any("c0002a01" in name for name in products(b))

    for folder in folders:
        called = nightmill("doctor", "--deep", "--checksums", "--site", folder)
        assert called.code == 0, called.out
        assert nightmill("status", "--site", folder).out.count("counting 1.0") == 1
        with open_site(folder) as site:
            assert preview(site).is_empty
    called = nightmill("sql", "SELECT DISTINCT site, store FROM file_location WHERE path IS NOT NULL ORDER BY 1",
                       "--json", "--site", b)  # fmt: skip
    assert called.json == [{"site": "a", "store": "backbone"}, {"site": "b", "store": "backbone"}]


def test_each_sees_the_others_files_and_says_why_it_cannot_plan_with_them(
    folders: tuple[Path, Path], nightmill: Nightmill
) -> None:
    for folder, own, other in (folders[0], "backbone", "b:backbone"), (folders[1], "backbone", "a:backbone"):
        found = nightmill("find", "--json", "--site", folder).json
        assert sorted(copy["store"] for file in found for copy in file["copies"]) == sorted([own, other])
        far = next(file["name"] for file in found if file["copies"][0]["store"] == other)
        assert f"{other}: " in nightmill("show", far, "--site", folder).out
        called = nightmill("plan", folder / "all.yaml", "--site", folder)
        assert called.code == 2
        why = f"a raw_science is chosen that is known and in no store of this site, but in {other} ('partners' of"
        assert f"{why} nightmill.yaml may let raw_science be shipped from there): file {far}" in called.err
        assert nightmill("plan", folder / "own.yaml", "--site", folder).code == 0


@pytest.mark.req("X13")
def test_neither_puts_the_others_files_right(folders: tuple[Path, Path], nightmill: Nightmill) -> None:
    a, b = folders
    for act in (("withdraw",), ("retype", "--type", "raw_bias")):
        called = nightmill(act[0], "cam_0001.fits", *act[1:], "--why", "wrong", "--site", b)
        assert called.code == 2
        assert "cam_0001.fits was taken in by site 'a': do it there" in called.err
    assert nightmill("withdraw", "cam_0001.fits", "--why", "wrong", "--site", a).out == "1 withdrawn\n"
    assert [file["name"] for file in nightmill("find", "--json", "--site", b).json] == ["cam_0002.fits"]


def test_neither_touches_the_others_campaigns(folders: tuple[Path, Path], nightmill: Nightmill) -> None:
    a, b = folders
    run(a)
    whose = "campaign 'one' is of site 'a', which shares this catalogue; do it at site 'a'"
    (b / "own.yaml").write_text((b / "own.yaml").read_text().replace("two", "one"))
    with open_site(b) as site:
        acts: list[Callable[[], Any]] = [
            lambda: submit(site, load_campaign(b / "own.yaml"), who="bob"),
            lambda: rerun(site, "one", who="bob", why="why not"),
            lambda: take_turn(site, "one", "count"),
            lambda: SliceWork(site, "one", "count", 0),
        ]
        for act in acts:
            with pytest.raises(RequestRefused) as refused:
                act()
            assert whose in str(refused.value)
        (a / "spool" / "recorded").rename(b / "came")
        with pytest.raises(RequestRefused, match=r"tells of campaign 'one', which is of site 'a'; .* at site 'a'"):
            drain(site, spool=b / "came")
    assert "counting" not in nightmill("status", "--site", b).out
    assert nightmill("show", "one", "--site", b).code == 0
    called = nightmill("show", "one/count/exposure=1", "--order", "--site", b)
    assert called.code == 0, called.err
    assert '"store": "backbone"' in called.out


def test_attempts_of_the_other_are_not_fenced(folders: tuple[Path, Path]) -> None:
    a, b = folders
    dead = this_process().model_copy(update={"started_at": 1.0})
    far = dead.model_copy(update={"host": "far"})
    with open_site(a) as site_a, open_site(b) as site_b:
        with site_a.database.writing() as session:
            for owner in (dead, far):
                leases.take(session, owner, flow_run_id=None, now=utc_now())

        def held(site: Site) -> list[object]:
            with site.database.reading() as session:
                return list(session.scalars(select(LeaseRow.id).where(LeaseRow.released_at.is_(None))))

        drain(site_b)
        assert len(held(site_b)) == 2
        with pytest.raises(RequestRefused, match="no lease and no journal of host 'far' is open"):
            declare_lost(site_b, "far", who="bob", why="burnt")
        drain(site_a)
        assert len(held(site_a)) == 1


def test_a_database_that_one_took_for_current_is_recovered_by_the_other(folders: tuple[Path, Path]) -> None:
    a, b = folders
    run(a)
    with open_site(a) as site_a, open_site(b) as site_b:
        memory.raise_marks(b / "spool", memory.Marks(attempt=90, file=90))  # as if it had been ahead
        recover(site_b, who="bob", why="the disk died")
        with pytest.raises(
            RequestRefused, match=r"older than its spool .*: site 'b' found it brought back from a backup"
        ):
            memory.require_current(site_a)
        with pytest.raises(RequestRefused, match="site 'b' found it brought back"):
            submit(site_a, load_campaign(a / "own.yaml"), who="ada")
        assert preview(site_a).older
        recover(site_a, who="ada", why="the disk died")
        memory.require_current(site_a)
        memory.require_current(site_b)


def test_a_copied_folder_is_refused_until_somebody_says_what_it_is(
    folders: tuple[Path, Path], nightmill: Nightmill, tmp_path: Path
) -> None:
    shutil.copytree(folders[0], tmp_path / "copy")
    for verb in ("find", "init"):
        called = nightmill(verb, *([tmp_path / "copy"] if verb == "init" else ["--site", tmp_path / "copy"]))
        assert called.code == 2
        assert f"{tmp_path / 'copy'} was copied, moved to another disk or brought back from a backup" in called.err
        assert "take the number after the key out of" in called.err
    file = tmp_path / "copy" / ".nightmill" / "site-id"
    assert file.stat().st_mode & 0o777 == 0o600
    key, _number = file.read_text().split()
    file.write_text(f"{key}\n")
    assert nightmill("init", tmp_path / "copy").code == 0
    assert nightmill("find", "--site", tmp_path / "copy").code == 0


def test_two_sites_of_one_name_are_refused(folders: tuple[Path, Path], nightmill: Nightmill, make: Make) -> None:
    a, b = folders
    text = (b / "nightmill.yaml").read_text()
    (b / "nightmill.yaml").write_text(re.sub("^site: .*", "site: a", text, flags=re.MULTILINE))
    keys = [(folder / ".nightmill" / "site-id").read_text().split()[0] for folder in folders]
    called = nightmill("init", b)
    assert called.code == 2
    assert f"has another site 'a': its key is {keys[0]}, and that of {b} is {keys[1]}" in called.err
    assert "give one of them another name, 'site' in nightmill.yaml" in called.err
    (b / "nightmill.yaml").write_text(re.sub("^site: .*", "site: c", text, flags=re.MULTILINE))
    assert nightmill("init", b).code == 0
    assert "c:backbone" in nightmill("find", "--site", a).out

    (a / ".nightmill" / "site-id").unlink()
    called = nightmill("find", "--site", a)
    assert called.code == 2
    assert f"does not know site 'a' of {a}; run 'nightmill init' in the site's folder" in called.err


def test_what_was_there_before_sites_goes_to_one_of_those_that_come_at_once(database_url: str) -> None:
    def come(name: str) -> int | str:
        database = Database(database_url)
        try:
            return database.write(lambda session: claim(session, key=f"key of {name}", name=name, now=utc_now()))
        finally:
            database.close()

    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(come, "abcd"))
    assert sorted(map(int, ids)) == [1, 2, 3, 4]
    assert come("b") == ids[1]
    database = Database(database_url)
    with database.reading() as session:
        assert len(session.scalars(select(SiteRow.key)).all()) == 4
        with pytest.raises(RequestRefused, match="several sites share this catalogue, and nothing says for which"):
            this_site(session)
    database.close()


def test_each_site_knows_its_own_errors(folders: tuple[Path, Path], nightmill: Nightmill, tmp_path: Path) -> None:
    one, two = folders
    (tmp_path / "e.yaml").write_text("errors: {cloudy: {says: cloud, explanation: It was cloudy}}\n")
    for folder, version in ((one, 1), (two, 1)):
        added = nightmill("errors", "add", tmp_path / "e.yaml", "--why", "seen", "--site", folder)
        assert added.out.startswith(f"cloudy (version {version}): off")
    assert nightmill("errors", "on", "cloudy", "--why", "tried", "--site", one).code == 0
    states = {folder: nightmill("errors", "list", "--json", "--site", folder).json[0]["on"] for folder in folders}
    assert states == {one: True, two: False}
