"""Two sites of two users: each reads what the other lets it, writes nothing there, and both have one PostgreSQL."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest

from nightmill.cli import main
from tests.cli.test_bad_input import PIPELINE, RAW, TYPES
from tests.cli.test_shipping import partner, run
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


@pytest.mark.req("D15", "D16", "X31")
def test_each_user_writes_into_their_own_site_alone(places: tuple[Path, Path], postgres_url: str) -> None:
    ada, bob = places
    a, b = ada / "a", bob / "b"

    def begin_a() -> str:
        made(ada, "a", postgres_url)
        deliver(ada / "night", FRAMES)
        partner(a, "b", b)
        return call("ingest", ada / "night", *RAW, "--site", a)

    def work_b() -> list[str]:
        made(bob, "b", postgres_url)
        partner(b, "a", a, ship="all")
        (b / "pipeline.yaml").write_text(PIPELINE)
        (b / "far.yaml").write_text("campaign: far\npipeline: pipeline.yaml\nhome: {site: a}\n")
        planned = call("plan", b / "far.yaml", "--site", b)
        states = run(b)
        return [planned, *states, written(a / "stores" / "backbone"), call("record", "--site", b)]

    def end_a() -> list[str]:
        brought = call("bring-home", "--site", a)
        again = call("bring-home", "--json", "--site", a)
        deep = call("doctor", "--deep", "--checksums", "--site", a)
        routes = call("ops", "transfers", "--json", "--site", a)
        return [brought, again, deep, routes, written(b / "stores" / "backbone")]

    assert "2 registered" in as_(ADA, begin_a)
    planned, *states, tried, _drained = as_(BOB, work_b)
    assert "to be shipped: 2 files" in planned
    assert (states, tried) == (["done"] * FRAMES, "PermissionError")
    brought, again, deep, routes, tried = as_(ADA, end_a)
    assert brought.startswith("0: far: 4 files, ")
    assert again == "0: []\n"
    assert deep.startswith("0: "), deep
    found = json.loads(routes.partition(": ")[2])
    assert [(each["purpose"], each["files"], each["failed"]) for each in found] == [("home", 4, 0), ("shipped", 2, 0)]
    assert tried == "PermissionError"
    owners = {path.stat().st_uid for path in (b / "stores").rglob("*")}
    assert owners == {BOB}
    assert {path.stat().st_uid for path in (a / "stores").rglob("*")} == {ADA}


def as_(user: int, function: Callable[[], Any]) -> Any:
    return as_nobody(function, user=user)
