"""A secret in a URL stands in the environment alone, and whoever opens a store or the database has it from there."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nightmill import plugins
from nightmill.config.campaign import load_campaign
from nightmill.model.store import Store
from nightmill.operations.site import open_site
from nightmill.operations.submit import submit
from stagers.local import LocalStager
from tests.cli.conftest import Nightmill
from tests.cli.test_bad_input import CAMPAIGN, PIPELINE, RAW, TYPES
from tests.examples.campaigns import conduct
from tests.support.backbone import dump
from tests.support.observatory import FILE_TYPES, deliver

SECRET = "s3cret/@:%"
URL = "veiled://me:${STORE_KEY}@archive/nights?token=${STORE_KEY}"
FILLED = "veiled://me:s3cret%2F%40%3A%25@archive/nights?token=s3cret%2F%40%3A%25"


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Install a stager for ``veiled``, which keeps files in a folder; return the URLs that it was opened with."""
    seen: list[str] = []
    (tmp_path / "veiled").mkdir()

    def veiled(store: Store) -> LocalStager:
        seen.append(store.url)
        return LocalStager(store.model_copy(update={"url": (tmp_path / "veiled").as_uri()}))

    def points(group: str) -> list[Any]:
        load: Callable[[], object] = lambda: veiled  # noqa: E731 - as an entry point has it
        return [*entry_points(group=group), SimpleNamespace(name="veiled", value="veiled", load=load, dist=None)]

    monkeypatch.setattr(plugins, "entry_points", points)
    monkeypatch.setenv("STORE_KEY", SECRET)
    return seen


def test_a_secret_of_a_store_is_written_nowhere(
    folder: Path, nightmill: Nightmill, tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (folder / "nightmill.yaml").read_text()
    (folder / "nightmill.yaml").write_text(text.replace("url: stores/backbone", f"url: {URL}"))
    (folder / "file_types.yaml").write_text((folder / "file_types.yaml").read_text() + TYPES)
    (folder / "pipeline.yaml").write_text(PIPELINE)
    (folder / "first.yaml").write_text(CAMPAIGN)
    told = [nightmill("init", folder), nightmill("doctor")]
    deliver(tmp_path / "night", 1)
    told.append(nightmill("ingest", tmp_path / "night", *RAW))
    with open_site(folder) as site:
        submit(site, load_campaign(folder / "first.yaml"), who="tester")
        conduct(site, "first")
    told += [nightmill("show", "first/count/exposure=1", "--order"), nightmill("sql", "SELECT * FROM file_location")]
    assert all(called.code == 0 for called in told), told
    assert URL in told[-1].out
    assert URL in told[-2].out
    assert set(opened) == {FILLED}
    assert not [called for called in told if "s3cret" in called.out + called.err]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]
    order = tmp_path / "order.json"
    order.write_text(told[-2].out.replace("a01.", "a07."))
    by_hand = ("run", order, "--spool", tmp_path / "spool", "--scratch", tmp_path / "scratch")
    monkeypatch.delenv("STORE_KEY")
    called = nightmill(*by_hand)
    assert called.code == 2
    assert "store 'backbone' has the URL veiled://me:${STORE_KEY}@archive" in called.err
    assert "the environment variable STORE_KEY is not set on this host; export STORE_KEY=" in called.err
    monkeypatch.setenv("STORE_KEY", SECRET)
    assert nightmill(*by_hand).code == 0
    assert set(opened) == {FILLED}


def test_a_secret_of_the_database_is_in_its_connection_alone(
    tmp_path: Path, nightmill: Nightmill, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres_url.replace("@", ":${DB_PASSWORD}@", 1).replace("+psycopg", "")
    monkeypatch.setenv("DB_PASSWORD", SECRET)
    monkeypatch.delenv("NIGHTMILL_SITE", raising=False)
    (tmp_path / "types.yaml").write_text(FILE_TYPES + TYPES)
    folder = tmp_path / "site"
    told = [nightmill("init", folder, "--database", url, "--file-types", tmp_path / "types.yaml")]
    text = (folder / "nightmill.yaml").read_text()
    server = "server:\n  database: postgresql://me:${DB_PASSWORD}@h/prefect\n  auth: me:${DB_PASSWORD}\n"
    (folder / "nightmill.yaml").write_text(text.replace("server:\n", server))
    monkeypatch.chdir(folder)
    (folder / "pipeline.yaml").write_text(PIPELINE)
    (folder / "first.yaml").write_text(CAMPAIGN)
    deliver(tmp_path / "night", 1)
    told += [nightmill("ingest", tmp_path / "night", *RAW), nightmill("plan", "first.yaml", "--json")]
    with open_site(folder) as site:
        submit(site, load_campaign(folder / "first.yaml"), who="tester")
        conduct(site, "first")
        assert site.database.address.password == SECRET
        rows = repr(dump(site.database))
        shown = [repr(each) for each in (site, site.config, site.config.server, site.database.address, site.database)]
        kept = (site.config.database_url, site.config.server.database, site.config.server.auth)
    told += [
        nightmill("doctor", "--deep"),
        nightmill("show", "first/count/exposure=1", "--order"),
        nightmill("sql", "SELECT * FROM audit"),
    ]
    assert [called.code for called in told] == [0] * 6, told
    monkeypatch.setenv("DB_PASSWORD", "s3cret again")
    text = (folder / "nightmill.yaml").read_text()
    (folder / "nightmill.yaml").write_text(text.replace("?host=", "?host=/nowhere"))
    told.append(nightmill("find"))
    assert told[-1].code == 3
    assert "${DB_PASSWORD}@/" in told[-1].err
    for text in (rows, *shown, *kept, *(called.out + called.err for called in told)):
        assert "s3cret" not in text
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]
    monkeypatch.delenv("DB_PASSWORD")
    called = nightmill("find")
    assert "database needs the environment variable 'DB_PASSWORD', which is not set" in called.err
