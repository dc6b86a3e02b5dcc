"""Files that lie in buckets and on other machines: registered there, copied from there, and copied to there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from nightmill.backbone.catalogue.replicas import replicas
from nightmill.backbone.schema import FileRow, RefusalRow
from nightmill.errors import RequestRefused, StoreError
from nightmill.model.origin import Origin
from nightmill.operations.ingest import far as far_module
from nightmill.operations.ingest.placement import Mode
from nightmill.operations.ingest.take_in import IngestResult, ingest
from nightmill.operations.init import make_site
from nightmill.operations.site import Site, open_site
from stagers.conformance import publish
from tests.cli.conftest import Nightmill, nightmill
from tests.support.observatory import FILE_TYPES, deliver
from tests.support.seaweed import SeaweedServer
from tests.support.sshd import Sshd
from tests.support.web import Web

__all__ = ["nightmill"]


@pytest.fixture
def url(seaweed: SeaweedServer) -> str:
    """Give the URL of a prefix of a bucket."""
    return seaweed.url(seaweed.new_prefix())


def made(tmp_path: Path, url: str, *, kind: str = "stores") -> Site:
    """Make a site with an archive elsewhere, in which two frames lie, a text and what is hidden."""
    types = tmp_path / "types.yaml"
    types.write_text(FILE_TYPES)
    make_site(tmp_path / "site", file_types=types).close()
    config = tmp_path / "site" / "nightmill.yaml"
    more = f'  archive:\n    url: "{url}"\n'
    config.write_text(config.read_text().replace("stores:\n", f"stores:\n{more}", 1))
    make_site(tmp_path / "site").close()
    return open_site(tmp_path / "site")


def filled(site: Site, tmp_path: Path) -> list[Path]:
    paths = deliver(tmp_path / "night", 2)
    (tmp_path / "night" / "note.txt").write_text("no frame")
    for path in (*paths, tmp_path / "night" / "note.txt"):
        publish(site.stagers["archive"], path, f"2026/jan 10/{path.name}")
    publish(site.stagers["archive"], paths[0], "2026/.cache/cam_0001.fits")
    return paths


def take(site: Site, *paths: str | Path, mode: Mode = Mode.COPY, store: str = "", **how: Any) -> IngestResult:
    places = [Path(path) for path in paths]
    return ingest(site, places, type="raw_science", origin=Origin.RAW, who="ada", mode=mode, store=store, **how)


def copies(site: Site, name: str) -> list[tuple[str, str]]:
    with site.database.reading() as session:
        id_ = session.scalars(select(FileRow.id).where(FileRow.name == name)).one()
        return [(copy.store, copy.path) for copy in replicas(session, [id_])[id_]]


def left(site: Site) -> list[Path]:
    return list(site.config.scratch.iterdir())


def in_place(site: Site, tmp_path: Path, *places: str) -> None:
    """Register what lies in the archive, and see that nothing is written there, nor left here."""
    filled(site, tmp_path)
    before = sorted(site.stagers["archive"].list())
    result = take(site, *places, mode=Mode.IN_PLACE)
    assert [(str(each.path), each.name) for each in result.registered] == [
        (f"archive:2026/jan 10/{name}", name) for name in ("cam_0001.fits", "cam_0002.fits")
    ]
    [refused] = result.refused
    assert refused.message.startswith("archive:2026/jan 10/note.txt is not ")
    assert result.hidden == [Path("archive:2026/.cache/cam_0001.fits")]
    assert copies(site, "cam_0002.fits") == [("archive", "2026/jan 10/cam_0002.fits")]
    assert sorted(site.stagers["archive"].list()) == before
    assert left(site) == []
    with site.database.reading() as session:
        assert session.scalars(select(RefusalRow.path)).all() == ["archive:2026/jan 10/note.txt"]
    again = take(site, *places, mode=Mode.IN_PLACE)
    assert (len(again.registered), len(again.skipped)) == (0, 2)


def test_what_lies_in_a_bucket_is_registered_where_it_lies(tmp_path: Path, url: str) -> None:
    with made(tmp_path, url) as site:
        in_place(site, tmp_path, "archive:2026/")


def test_what_lies_on_another_machine_is_named_by_its_url_as_well(tmp_path: Path, sshd: Sshd) -> None:
    (tmp_path / "far").mkdir()
    url = sshd.url(tmp_path / "far")
    with made(tmp_path, url) as site:
        in_place(site, tmp_path, url.partition("?")[0] + "/2026")


def test_a_file_of_a_web_server_is_registered_and_copied_from_there(tmp_path: Path, web: Web) -> None:
    [path] = deliver(tmp_path / "night", 1)
    web.files["/data/a/cam_0001.fits"] = path.read_bytes()
    with made(tmp_path, f"{web.url}/data") as site:
        assert len(take(site, "archive:a/cam_0001.fits", mode=Mode.IN_PLACE).registered) == 1
        assert copies(site, "cam_0001.fits") == [("archive", "a/cam_0001.fits")]
        result = take(site, f"{web.url}/data/a/cam_0001.fits", store="backbone", add_copies=True)
        assert [each.name for each in result.copied] == ["cam_0001.fits"]
        assert copies(site, "cam_0001.fits")[1] == ("backbone", "raw/20260110/cam_0001.fits")
        assert (tmp_path / "site/stores/backbone/raw/20260110/cam_0001.fits").read_bytes() == path.read_bytes()
        with pytest.raises(StoreError, match="HTTP has no lists of files"):
            take(site, "archive:a", mode=Mode.IN_PLACE)


def test_files_are_copied_from_a_bucket_and_a_copy_is_added_there(tmp_path: Path, url: str) -> None:
    with made(tmp_path, url) as site:
        paths = filled(site, tmp_path)
        assert len(take(site, "archive:2026/jan 10/cam_0001.fits", store="backbone").registered) == 1
        assert copies(site, "cam_0001.fits") == [("backbone", "raw/20260110/cam_0001.fits")]
        plain = take(site, paths[0], store="archive")
        assert (len(plain.skipped), plain.copied) == (1, []), "no copy is made unasked"
        dry = take(site, *paths, store="archive", add_copies=True, dry_run=True)
        assert len(dry.wanted) == 2
        result = take(site, *paths, paths[0], store="archive", add_copies=True)
        assert [[each.name for each in some] for some in (result.registered, result.copied, result.skipped)] == [
            ["cam_0002.fits"],
            ["cam_0001.fits"],
            [],
        ]
        assert copies(site, "cam_0001.fits") == [
            ("backbone", "raw/20260110/cam_0001.fits"),
            ("archive", "raw/20260110/cam_0001.fits"),
        ]
        again = take(site, *paths, store="archive", add_copies=True)
        assert (len(again.skipped), again.copied, again.registered) == (2, [], [])
        assert list(site.stagers["archive"].uploads()) == []


def test_a_copy_that_lies_there_already_is_added_in_place(tmp_path: Path, url: str) -> None:
    with made(tmp_path, url) as site:
        paths = filled(site, tmp_path)
        take(site, *paths, store="backbone")
        result = take(site, "archive:2026/jan 10", mode=Mode.IN_PLACE, add_copies=True)
        assert [each.name for each in result.copied] == ["cam_0001.fits", "cam_0002.fits"]
        assert copies(site, "cam_0002.fits")[1] == ("archive", "2026/jan 10/cam_0002.fits")


def test_a_new_file_that_is_given_twice_is_registered_once(tmp_path: Path) -> None:
    with made(tmp_path, "stores/archive") as site:
        paths = [*deliver(tmp_path / "night", 1), *deliver(tmp_path / "again", 1)]
        result = take(site, *paths, store="backbone", add_copies=True)
        assert (len(result.registered), result.copied, len(result.skipped)) == (1, [], 1)
        result = take(site, *paths, store="archive", add_copies=True)
        assert (result.registered, len(result.copied), len(result.skipped)) == ([], 1, 1)
        assert [store for store, _path in copies(site, "cam_0001.fits")] == ["backbone", "archive"]


def test_lots_are_bounded_by_bytes_and_what_a_dead_process_left_goes(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    with made(tmp_path, url) as site:
        filled(site, tmp_path)
        (site.config.scratch / ".ingest-dead" / "0").mkdir(parents=True)
        (site.config.scratch / ".ingest-dead" / "0" / "half.fits").write_bytes(b"half")
        monkeypatch.setattr(far_module, "LOT_BYTES", 1)
        places = [Path("archive:2026")]
        ingest(
            site,
            places,
            type="raw_science",
            origin=Origin.RAW,
            mode=Mode.IN_PLACE,
            report=lambda done, _total: seen.append(done),
        )
        assert seen == [1, 2, 3]
        assert left(site) == []


def test_what_cannot_be_is_refused(tmp_path: Path, url: str, nightmill: Nightmill) -> None:
    with made(tmp_path, url) as site:
        paths = filled(site, tmp_path)
        for mode, done in ((Mode.LINK, "linked"), (Mode.MOVE, "moved")):
            with pytest.raises(
                RequestRefused, match=rf"^archive:2026 is not a file of this host, .* {done}; use --mode"
            ):
                take(site, "archive:2026", mode=mode)
        with pytest.raises(RequestRefused, match="no hard link leads there; use --mode copy"):
            take(site, paths[0], mode=Mode.LINK, store="archive")
        with pytest.raises(RequestRefused, match="is not a local folder; name files as they lie there: archive:PATH"):
            take(site, paths[0], mode=Mode.IN_PLACE, store="archive")
        with pytest.raises(
            RequestRefused, match=r"^s3:/elsewhere/x: no store of the site is there; make a store of it"
        ):
            take(site, "s3://elsewhere/x")
        with pytest.raises(RequestRefused, match="there are no files in archive:2027"):
            take(site, "archive:2027", mode=Mode.IN_PLACE)
        [_note, refused, _other] = take(site, "archive:2026/jan 10", store="archive").refused
        assert refused.message == (
            "archive:2026/jan 10/cam_0001.fits lies in store 'archive' already; use --mode in-place"
        )
        elsewhere = take(site, "archive:2026/jan 10", store="backbone", mode=Mode.IN_PLACE).refused[1]
        assert elsewhere.reason == "not_in_store"
    what = ("--type", "raw_science", "--origin", "raw", "--mode", "in-place", "--site", tmp_path / "site", "--json")
    told = nightmill("ingest", "archive:2026/jan 10/cam_0002.fits", *what)
    assert (told.code, [each["path"] for each in told.json["registered"]]) == (0, ["archive:2026/jan 10/cam_0002.fits"])


def test_a_folder_has_names_in_its_store_too(tmp_path: Path) -> None:
    with made(tmp_path, "stores/archive") as site:
        deliver(tmp_path / "site/stores/archive/night", 1)
        assert len(take(site, "archive:night", mode=Mode.IN_PLACE).registered) == 1
        assert copies(site, "cam_0001.fits") == [("archive", "night/cam_0001.fits")]
