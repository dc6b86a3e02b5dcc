from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from nightmill.config import database_url as config_database_url
from nightmill.config.site import SITE_VARIABLE, find_site, load_site
from nightmill.config.template import file_types_text, site_text
from nightmill.errors import ConfigError
from nightmill.files.headers import read_metadata
from nightmill.operations.site import database_of
from tests.config.documents import refusals, write
from tests.files.frames import fits_bytes

SITE = """\
site: laptop
file_types: [types/*.yaml]
stores:
  backbone: {url: stores/backbone}
"""
TYPES = "file_types: {notes: {}}\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(SITE_VARIABLE, raising=False)
    (tmp_path / "types").mkdir()
    write(tmp_path, "types/notes.yaml", TYPES)
    write(tmp_path, "nightmill.yaml", SITE)
    return tmp_path


def problems(site: Path, text: str) -> list[str]:
    write(site, "nightmill.yaml", text)
    return refusals(load_site, site)


@pytest.mark.parametrize(
    ("indexed", "message"),
    [
        ("[night]", "nightmill.yaml:5: indexed: 'night' is a column, which has its index"),
        ("[taget]", "indexed: 'taget' is not a key of any file type (did you mean 'target'?)"),
        ("[dit]", "indexed: 'dit' is not a key of any file type (there is target)"),
    ],
)
def test_keys_that_cannot_have_an_index(site: Path, indexed: str, message: str) -> None:
    write(site, "types/notes.yaml", "file_types: {notes: {format: fits, metadata: {target: {keywords: [OBJECT]}}}}\n")
    [problem] = problems(site, f"{SITE}indexed: {indexed}\n")
    assert message in problem
    write(site, "nightmill.yaml", f"{SITE}indexed: [target]\n")
    assert load_site(site).indexed == {"target": "str"}


def test_a_key_has_one_type_at_a_site(site: Path) -> None:
    """X01."""
    text = """\
        file_types:
          raw: {format: fits, metadata: {dit: {keywords: [DIT], type: float}}}
          dark:
            format: fits
            metadata:
              dit: {keywords: [DIT], type: int}
        """
    write(site, "types/more.yaml", text)
    [problem] = refusals(load_site, site)
    assert problem.endswith(
        "more.yaml:6: file_types.dark.metadata.dit: dit is of type int, and in file type 'raw' of type float"
        f" ({site / 'types/more.yaml'}:2); a key has one type at a site: give both the same, or one of them another"
        " name"
    )


def test_what_init_writes_is_a_site(tmp_path: Path) -> None:
    write(tmp_path, "nightmill.yaml", site_text("laptop"))
    write(tmp_path, "file_types.yaml", file_types_text())
    found = load_site(tmp_path)
    assert (found.name, found.directory) == ("laptop", tmp_path)
    assert found.database_url == f"sqlite:///{tmp_path}/nightmill.db"
    assert (found.scratch, found.spool) == (tmp_path / "scratch", tmp_path / "spool")
    assert {name: store.catalogued for name, store in found.stores.items()} == {"backbone": True, "quicklook": False}
    assert found.stores["backbone"].url == (tmp_path / "stores/backbone").as_uri()
    assert (found.server.host, found.server.port, found.server.slices) == ("127.0.0.1", 0, 2)
    frame = tmp_path / "frame.fits"
    cards = {"INSTRUME": "cam", "EXPNUM": 1, "CCDNUM": 2, "DATE-OBS": "2026-01-10T22:00:00", "EXPTIME": 1.0}
    frame.write_bytes(fits_bytes(cards))
    assert read_metadata(frame, found.file_types["raw_science"]).data_id["night"] == 20260110


def test_what_is_not_said_has_defaults_and_relative_paths_are_of_the_site(site: Path) -> None:
    found = load_site(site)
    assert found.database_url == f"sqlite:///{site}/nightmill.db"
    assert found.scratch == site / "scratch"
    assert list(found.file_types) == ["notes"]
    assert found.operators == ()
    write(site, "nightmill.yaml", SITE + "scratch: /tmp/scratch\nspool: ../spool\noperators: [alice, bob]\n")
    found = load_site(site)
    assert (found.scratch, found.spool) == (Path("/tmp/scratch"), site / "../spool")
    assert found.operators == ("alice", "bob")


def test_a_site_is_found_by_folder_variable_or_from_below(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = site / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert find_site() == site
    monkeypatch.chdir("/")
    assert find_site(site) == site
    with pytest.raises(ConfigError, match=r"no site: neither / nor a folder above it has a nightmill\.yaml; make one"):
        find_site()
    monkeypatch.setenv(SITE_VARIABLE, str(site))
    assert find_site() == site
    monkeypatch.setenv(SITE_VARIABLE, str(below))
    with pytest.raises(ConfigError, match=rf"{SITE_VARIABLE}: .* is not a site: it has no nightmill\.yaml"):
        find_site()
    with pytest.raises(ConfigError, match=r"--site: .* is not a site.*make one: nightmill init"):
        find_site(below)


def test_variables_are_put_in_everywhere(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "s3cret")
    monkeypatch.setenv("AREA", "/data/areas")
    write(
        site,
        "nightmill.yaml",
        SITE
        + "database: postgresql+psycopg://me:${DB_PASSWORD}@host/db\n"
        + "working_areas: {quick: {url: '${AREA}/quick$$'}}\n",
    )
    found = load_site(site)
    assert found.database_url == "postgresql+psycopg://me:${DB_PASSWORD}@host/db"
    assert database_of(found).address.password == "s3cret"
    assert found.stores["quick"].url == "file:///data/areas/quick%24"
    assert "s3cret" not in repr(found)


def test_a_secret_is_quoted_where_it_is_put_in_and_referred_to_elsewhere(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "p/w@x:y%?#&=ä")
    monkeypatch.setenv("HOST", "db.example:5433")
    monkeypatch.setenv("STORE", "s3://key:s3cret@bucket/x")
    monkeypatch.setenv("AREA", "/data/my areas")
    write(
        site,
        "nightmill.yaml",
        SITE
        + "  far: {url: 's3://key:${SECRET}@bucket/x?token=${SECRET}'}\n"
        + "  whole: {url: '${STORE}'}\n"
        + "  near: {url: '${AREA}/near'}\n"
        + "  named: {url: 'file://${AREA}/named'}\n"
        + "database: postgresql://me:${SECRET}@${HOST}/db?host=${AREA}\n"
        + "server: {database: 'postgresql://me:${SECRET}@h/prefect'}\n",
    )
    found = load_site(site)
    url = database_of(found).address
    assert (url.password, url.host, url.port) == ("p/w@x:y%?#&=ä", "db.example", 5433)
    assert url.query == {"host": "/data/my areas"}
    assert found.server.database == "postgresql://me:${SECRET}@h/prefect"
    started = found.server.with_secrets(found.secrets)
    assert make_url(started.database).password == "p/w@x:y%?#&=ä"
    assert {name: store.url for name, store in found.stores.items()} == {
        "backbone": (site / "stores/backbone").as_uri(),
        "far": "s3://key:${SECRET}@bucket/x?token=${SECRET}",
        "whole": "${STORE}",
        "near": "file:///data/my%20areas/near",
        "named": "file:///data/my%20areas/named",
    }


def test_variables_that_are_not_set_are_all_named(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH", raising=False)
    found = problems(site, SITE + "spool: ${NO_SUCH}/spool\nserver: {auth: 'me:${NO_SUCH}'}\n")
    assert found == [
        "nightmill.yaml:5: spool needs the environment variable 'NO_SUCH', which is not set; export NO_SUCH=...; or"
        " write that into .nightmill/secrets; a dollar sign itself is written $$",
        "nightmill.yaml:6: server.auth needs the environment variable 'NO_SUCH', which is not set; export NO_SUCH=...;"
        " or write that into .nightmill/secrets; a dollar sign itself is written $$",
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("site: laptop", "site: my laptop", ":1: site name 'my laptop' should have letters, digits"),
        ("site: laptop", "sit: laptop", ":1: unknown key sit (did you mean 'site'?)"),
        (
            "site: laptop",
            "site: laptop\nserver: {port: 99999}",
            "server.port is 99999 and should be less than or equal",
        ),
        ("site: laptop", "site: laptop\nserver: {slises: 2}", ":2: unknown key server.slises (did you mean 'slices'?)"),
        (
            "site: laptop",
            "site: laptop\nserver: {auth: secret}",
            ":2: server.auth should be user:password, in printable",
        ),
        ("site: laptop", "site: laptop\nserver: {auth: 'me:pässword'}", ":2: server.auth should be user:password"),
        ("site: laptop", "site: laptop\nserver: {auth: ':x'}", ":2: server.auth should be user:password"),
        (
            "site: laptop",
            "site: laptop\nserver: {hosts: ['http://mill']}",
            ":2: server.hosts[0] is 'http://mill', and should be name or name:port",
        ),
        ("[types/*.yaml]", "[typs/*.yaml]", ":2: file_types[0]: no file is like 'typs/*.yaml'"),
        ("[types/*.yaml]", "[types/**.yml]", ":2: file_types[0]: no file is like 'types/**.yml'"),
        ("[types/*.yaml]", "[types.yaml]", "types.yaml is not there; the folder has: nightmill.yaml"),
        ("[types/*.yaml]", "[types]", "nightmill.yaml:2: "),
        ("url: stores/backbone", "url: 'http://[x'", ":4: stores.backbone.url is not a URL: Invalid IPv6 URL"),
        ("url: stores/backbone", "uri: stores/backbone", ":4: unknown key stores.backbone.uri (did you mean 'url'?)"),
        (
            "url: stores/backbone",
            "url: x, kind: dsk",
            "kind is 'dsk' and should be 'disk', 'object', 'tape' or 'enclave'",
        ),
        (
            "url: stores/backbone",
            "url: x, catalogued: false",
            "unknown key stores.backbone.catalogued; stores are, working",
        ),
        (
            "url: stores/backbone",
            "url: 'https://host/data'",
            ":4: stores.backbone.url: outputs go to backbone, and a store over HTTP is read-only",
        ),
        (
            "stores:\n",
            "working_areas:\n  web: {url: 'http://host/data'}\nstores:\n",
            ":4: working_areas.web.url: outputs go to web, and a store over HTTP is read-only",
        ),
        ("backbone:", "archive:", ":3: stores has no 'backbone', the store that outputs go to by default"),
        ("stores:\n", "stores:\n  none: {url: x}\n", ":4: stores.none: 'none' stands for no store"),
        (
            "stores:\n",
            "working_areas: {backbone: {url: x}}\nstores:\n",
            ":3: working_areas.backbone: 'backbone' is a store",
        ),
        ("stores:\n", "stores:\n  a/b: {url: x}\n", ":4: store name 'a/b' should have letters, digits"),
        (
            "site: laptop",
            "site: laptop\ndatabase: nightmill.db",
            ":2: database is 'nightmill.db', no database of a kind",
        ),
        (
            "site: laptop",
            "site: laptop\ndatabase: 'sqlite://'",
            ":2: database should name an SQLite file; write sqlite:///",
        ),
        ("site: laptop", "site: laptop\ndatabase: 'sqlite:///:memory:'", "database should name an SQLite file"),
        (
            "site: laptop",
            "site: laptop\ndatabase: mysql://me:secret@host/db",
            "database is 'mysql://me:***@host/db', no database of a kind",
        ),
        (
            "site: laptop",
            "site: laptop\ndatabase: postgresql+psycopg2://me:secret@host/db",
            "write sqlite:///nightmill.db or postgresql+psycopg://user@host/name",
        ),
    ],
)
def test_refusal(site: Path, old: str, new: str, expected: str) -> None:
    assert old in SITE
    found = problems(site, SITE.replace(old, new))
    assert any(expected in problem for problem in found), found
    assert not any("secret" in problem for problem in found)


def test_postgresql_is_spoken_to_by_psycopg(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = SITE + "database: postgresql://me@host/db\n"
    write(site, "nightmill.yaml", text)
    assert load_site(site).database_url == "postgresql+psycopg://me@host/db"
    monkeypatch.setattr(config_database_url, "find_spec", lambda name: None)
    assert problems(site, text) == [
        "nightmill.yaml:5: database is PostgreSQL, and psycopg is not installed;"
        " install nightmill with its extra 'postgres'"
    ]


def test_the_home_of_nobody_is_a_folder_like_any_other(site: Path) -> None:
    write(site, "nightmill.yaml", SITE + "scratch: ~nobody-here/scratch\n")
    assert load_site(site).scratch == site / "~nobody-here" / "scratch"
    with pytest.raises(ConfigError, match="~nobody-here is not a site"):
        find_site(Path("~nobody-here"))


def test_problems_of_its_file_types_are_told_by_their_own_place(site: Path) -> None:
    write(site, "types/notes.yaml", "file_types: {notes: {formt: any}}\n")
    [problem] = refusals(load_site, site)
    assert problem == "notes.yaml:1: unknown key file_types.notes.formt (did you mean 'format'?)"
