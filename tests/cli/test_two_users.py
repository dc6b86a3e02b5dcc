"""Two sites of two users: each reads what the other lets it, writes nothing there, and both have one PostgreSQL."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from nightmill.cli import main
from tests.cli.test_bad_input import PIPELINE, RAW, TYPES
from tests.cli.two_sites import partner, run
from tests.support.mounts import as_nobody
from tests.support.observatory import FILE_TYPES, deliver
from tests.support.postgres import PostgresServer

ADA: Final = 60_001
BOB: Final = 60_002
FRAMES: Final = 2


def call(*arguments: object) -> str:
    """Call nightmill in this process, and return what it printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as ended:
            return f"{int(ended.code or 0)}: {out.getvalue()}"
    raise AssertionError("nightmill returned")


@pytest.fixture
def places(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Path]]:
    """Give a folder of each of two users, whom the database lets in."""
    if os.geteuid() != 0:
        pytest.skip("only root can become other users")
    monkeypatch.delenv("NIGHTMILL_SITE", raising=False)
    postgres.socket_directory.chmod(0o711)
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        for name, user in (("ada", ADA), ("bob", BOB)):
            (Path(folder) / name).mkdir(mode=0o755)
            (Path(folder) / name).chmod(0o755)
            os.chown(Path(folder) / name, user, user)
        yield Path(folder) / "ada", Path(folder) / "bob"


def made(place: Path, name: str, url: str) -> None:
    """Make a site that all may read."""
    os.umask(0o022)
    (place / "types.yaml").write_text(FILE_TYPES + TYPES)
    told = call("init", place / name, "--database", url, "--file-types", place / "types.yaml")
    assert told.startswith("0: "), told
    path = place / name / "nightmill.yaml"
    text = path.read_text()
    assert "access: private" in text
    path.write_text(text.replace("access: private", "access: all"))
    assert call("init", place / name).startswith("0: ")


def written(folder: Path) -> str:
    """Try to write to a folder; return what came of it."""
    try:
        (folder / "mine").write_text("mine")
    except OSError as error:
        return type(error).__name__
    return "written"


class Scenario:
    """What the two users do, one after the other."""

    def __init__(self, ada: Path, bob: Path, url: str) -> None:
        self.ada, self.bob, self.url = ada, bob, url
        self.a, self.b = ada / "a", bob / "b"

    def begin_a(self) -> str:
        made(self.ada, "a", self.url)
        deliver(self.ada / "night", FRAMES)
        partner(self.a, "b", self.b)
        return call("ingest", self.ada / "night", *RAW, "--site", self.a)

    def work_b(self) -> list[str]:
        b = self.b
        made(self.bob, "b", self.url)
        partner(b, "a", self.a, ship="all")
        (b / "pipeline.yaml").write_text(PIPELINE)
        (b / "far.yaml").write_text("campaign: far\npipeline: pipeline.yaml\nhome: {site: a}\n")
        planned = call("plan", b / "far.yaml", "--site", b)
        states = run(b)
        return [planned, *states, written(self.a / "stores" / "backbone"), call("record", "--site", b)]

    def end_a(self) -> list[str]:
        a = self.a
        brought = call("bring-home", "--site", a)
        again = call("bring-home", "--json", "--site", a)
        deep = call("doctor", "--deep", "--checksums", "--site", a)
        routes = call("ops", "transfers", "--json", "--site", a)
        return [brought, again, deep, routes, written(self.b / "stores" / "backbone")]


@pytest.fixture
def imported(postgres: PostgresServer, postgres_template: str, tmp_path: Path) -> None:
    """Do it all once, so that all of Python is there that is wanted: it may lie where other users may not read."""
    database = postgres.create(postgres_template)
    scenario = Scenario(tmp_path, tmp_path, postgres.url(database))
    for act in (scenario.begin_a, scenario.work_b, scenario.end_a):
        act()
    postgres.drop(database)


@pytest.mark.req("D15", "D16", "X31")
@pytest.mark.usefixtures("imported")
def test_each_user_writes_into_their_own_site_alone(places: tuple[Path, Path], postgres_url: str) -> None:
    scenario = Scenario(*places, postgres_url)
    assert "2 registered" in as_nobody(scenario.begin_a, user=ADA)
    planned, *states, tried, drained = as_nobody(scenario.work_b, user=BOB)
    assert "to be shipped: 2 files" in planned
    assert (states, tried) == (["done"] * FRAMES, "PermissionError")
    assert drained.startswith("0: ")
    brought, again, deep, routes, tried = as_nobody(scenario.end_a, user=ADA)
    assert brought.startswith("0: far: 4 files, ")
    assert again == "0: []\n"
    assert deep.startswith("0: "), deep
    found = json.loads(routes.partition(": ")[2])
    assert [(each["purpose"], each["files"], each["failed"]) for each in found] == [("home", 4, 0), ("shipped", 2, 0)]
    assert tried == "PermissionError"
    for site, user in ((scenario.a, ADA), (scenario.b, BOB)):
        assert {path.stat().st_uid for path in (site / "stores").rglob("*")} == {user}
