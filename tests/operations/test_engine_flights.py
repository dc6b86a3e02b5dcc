"""``doctor --engine``: a tiny job goes out to every place of an engine, and campaigns refuse one that failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightmill import __version__
from nightmill.errors import RequestRefused, UnknownName
from nightmill.execution.dispatches import DISPATCHED
from nightmill.operations.flight.engines import Found, engines_to_try, fly
from nightmill.operations.site import Site
from tests.cli.conftest import Nightmill, nightmill
from tests.engines.test_remote import AHEAD
from tests.operations.test_engines import attempts, carry_out, conduct, leftovers, observe, slice_of
from tests.support.observatory import Observatory

__all__ = ["nightmill"]

ENGINES = """
engines:
  workers: {kind: processes, workers: 2}
  cluster: {kind: dask, workers: 1}
  away: {kind: dask, address: "tcp://127.0.0.1:9"}
"""


@pytest.fixture
def observatory(tmp_path: Path, database_url: str) -> Observatory:
    return built(tmp_path, database_url)


@pytest.fixture
def lite(tmp_path: Path) -> Observatory:
    return built(tmp_path, "")


def built(folder: Path, url: str) -> Observatory:
    observatory = Observatory.build(folder / "site", url)
    path = folder / "site" / "nightmill.yaml"
    stores = "  backbone: {url: stores/backbone}\n"
    path.write_text(path.read_text().replace(stores, f"{stores}  aside: {{url: stores/aside}}\n") + ENGINES)
    for made in ("stores/aside", "scratch", "cache", "spool"):
        (folder / "site" / made).mkdir()
    return observatory


def flown(site: Site, engine: str, **more: float) -> list[Found]:
    return list(fly(site, site.config.engines[engine], **more))


def wrong(found: list[Found]) -> dict[str, str]:
    return {each.tried.part: each.tried.seen for each in found if not each.tried.well}


def everything(folder: Path) -> set[str]:
    found = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    return {path for path in found if not path.startswith("nightmill.db")} - {"spool/flight"}


@pytest.mark.parametrize("engine", ["workers", "cluster"])
def test_each_part_of_a_place_is_seen_by_its_worker_and_nothing_stays(
    nightmill: Nightmill, lite: Observatory, engine: str
) -> None:
    folder = lite.directory
    before = everything(folder)
    told = nightmill("doctor", "--engine", engine, "--json", "--site", folder)
    found = {each["what"].rpartition(": ")[2]: each for each in told.json if each["engine"]}
    with lite.open() as site:
        stores = [f"store {name}" for name in site.config.stores]
    assert [*found] == ["python", "spool", "scratch", "confinement", "credentials", *stores, "clock", "job"]
    assert all(each["well"] for each in found.values()), found
    assert {each["engine"] for each in found.values()} == {engine}
    assert len({each["place"] for each in found.values()}) == 1
    assert "nightmill 0" in found["python"]["seen"]
    assert "GiB free" in found["scratch"]["seen"]
    assert "a second write was refused" in found["store backbone"]["seen"]
    assert "the journal read back" in found["job"]["seen"]
    assert everything(folder) == before
    acts = nightmill("acts", "--json", "--site", folder).json
    assert (acts[-1]["verb"], acts[-1]["subject"]) == ("doctor --engine", engine)


def test_a_table_has_a_line_a_place_and_all_means_every_engine(nightmill: Nightmill, lite: Observatory) -> None:
    told = nightmill("doctor", "--engine", "all", "--site", lite.directory)
    assert told.code == 1
    head, *rows = [line.split("\t") for line in told.out.splitlines() if line.count("\t") > 3]
    assert head[:3] == ["engine", "place", "python"]
    assert [row[0] for row in rows] == ["workers", "cluster", "away"]
    assert [dict(zip(head, row, strict=True)).get("job") for row in rows] == ["well", "well", "-"]
    assert [dict(zip(head, row, strict=True)).get("engine") for row in rows][-1] == "WRONG" or "WRONG" in rows[-1]
    assert "WRONG engine away, any host: reached: Dask at tcp://127.0.0.1:9: " in told.out
    assert "see whether its scheduler runs" in told.out


def test_an_engine_that_cannot_be_tried_is_named(lite: Observatory) -> None:
    with lite.open() as site:
        with pytest.raises(UnknownName, match=r"no engine named 'worker' \(did you mean 'workers'\?\)"):
            engines_to_try(site, ["worker"])
        with pytest.raises(RequestRefused, match="is threads of the slice's own process; 'nightmill doctor --flight'"):
            engines_to_try(site, ["threads"])


def test_a_campaign_refuses_an_engine_that_failed_until_it_passes_or_is_another(
    observatory: Observatory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    observatory.observe(1, ["seconds 0"])
    (tmp_path / "early").mkdir()
    (tmp_path / "early" / "sitecustomize.py").write_text(AHEAD)
    with monkeypatch.context() as patch, observatory.open() as site:
        patch.setenv("PYTHONPATH", str(tmp_path / "early"))
        [(part, seen)] = wrong(flown(site, "workers")).items()
    assert part == "clock"
    assert " s ahead of that of this host; at most 60 s are borne; set it, as by NTP" in seen
    with pytest.raises(RequestRefused) as refused:
        observatory.submit("night1", 1, "execution.engine=workers")
    assert str(refused.value).startswith("engine 'workers' failed its flight check of ")
    assert ", clock: the clock of host " in str(refused.value)
    assert refused.value.remedy.endswith("'nightmill doctor --engine workers'; or name another engine")
    observatory.submit("night2", 1, "execution.engine=cluster")
    with observatory.open() as site:
        assert wrong(flown(site, "workers")) == {}
    observatory.submit("night1", 1, "execution.engine=workers")


def test_another_setting_makes_a_failure_void_and_one_that_was_but_waited_for_counts_as_none(
    lite: Observatory,
) -> None:
    lite.observe(1, ["seconds 0"])
    (lite.directory / "stores" / "aside").rename(lite.directory / "away")
    with lite.open() as site:
        found = wrong(flown(site, "workers"))
        assert [*found] == ["store aside", "after"]
        assert "does not exist" in found["store aside"]
    (lite.directory / "away").rename(lite.directory / "stores" / "aside")
    with pytest.raises(RequestRefused, match="failed its flight check"):
        lite.submit("night1", 1, "execution.engine=workers")
    path = lite.directory / "nightmill.yaml"
    path.write_text(path.read_text().replace("workers: 2", "workers: 1"))
    lite.submit("night1", 1, "execution.engine=workers")
    with lite.open() as site:
        notes = sorted((site.config.spool / "flight").iterdir())
        assert notes, "of what could not be removed from the store that was away"
        late = flown(site, "workers", wait_seconds=0.01)
        assert [each.waited for each in late] == [True]
        assert "it was waited for 0.01 s, in vain: " in late[0].tried.seen
        assert not (site.config.spool / DISPATCHED).exists()
        assert sorted((site.config.spool / "flight").iterdir()) == notes
    lite.submit("night2", 1, "execution.engine=workers")


def test_a_slice_halts_where_workers_cannot_begin_and_no_job_fails(
    lite: Observatory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a host lacks would fail one job after another; they wait for what is to be mended."""
    observe(lite, "seconds 0", "seconds 0", "seconds 0")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "sitecustomize.py").write_text("import nightmill; nightmill.__version__ = '0.0.1'")
    with monkeypatch.context() as patch, lite.open() as site, slice_of(site) as work:
        patch.setenv("PYTHONPATH", str(tmp_path / "old"))
        assert list(carry_out(work)) == []
        assert work.seconds_to_wait() is None
    assert work.halted.startswith("engine 'workers' cannot begin jobs: a worker on host ")
    assert f"has nightmill 0.0.1, and nightmill {__version__} sent it out; install that version there" in work.halted
    assert work.halted.endswith("once that is mended, 'nightmill doctor --engine workers' tries it; then rerun")
    [(job, fate, why)] = attempts(lite)
    assert (job, fate) == ("ready", "cancelled")
    assert why.startswith("it was not begun: engine 'workers' cannot begin jobs: ")
    assert [str(report.fate) for report in conduct(lite)] == ["published"] * 3
    assert leftovers(lite) == []
