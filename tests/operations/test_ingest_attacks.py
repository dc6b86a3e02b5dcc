"""Whoever can write to the folder that is taken in gets nothing in but the files that lie there, as they were read."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from nightmill.backbone.catalogue.refusals import refusals
from nightmill.errors import RequestRefused
from nightmill.files import recognition
from nightmill.files.inspection import open_file
from nightmill.files.recognition import Sorting
from nightmill.operations.ingest import arrivals
from nightmill.operations.ingest.finding import find_files
from nightmill.operations.ingest.placement import Mode, Placement
from nightmill.operations.site import Site
from tests.operations.test_ingest import raw, reasons
from tests.support.mounts import as_nobody
from tests.support.observatory import deliver, frame, stored

SECRET = frame(99, OBJECT="secret")


@pytest.fixture
def night(tmp_path: Path) -> Path:
    """Give a folder with one good file, and what a stranger should not have, beside it."""
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "secret.fits").write_bytes(SECRET)
    deliver(tmp_path / "night", 1)
    return tmp_path / "night"


def after_inspection(monkeypatch: pytest.MonkeyPatch, act: Callable[[Path], None]) -> None:
    """Do something to each file once it has been read."""

    def inspect(path: Path, *arguments: Any, **options: Any) -> Any:
        found = open_file(path, *arguments, **options)
        act(path)
        return found

    monkeypatch.setattr(recognition, "open_file", inspect)


# ------------------------------------------------------------------------------------------------ links


@pytest.mark.req("X36")
def test_no_link_is_followed_whether_given_or_found(site: Site, night: Path) -> None:
    private = night.parent / "private"
    (night / "file.fits").symlink_to(private / "secret.fits")
    (night / "folder").symlink_to(private)
    (night / "broken.fits").symlink_to("nowhere")
    given = night.parent / "given"
    given.symlink_to(night)
    result = raw(site, night, given)
    assert [each.name for each in result.registered] == ["cam_0001.fits"]
    assert reasons(result) == dict.fromkeys(["file.fits", "folder", "broken.fits", "given"], "link")
    assert list(stored(site.config.directory)) == ["raw/20260110/cam_0001.fits"]
    with site.database.reading() as session:
        [row] = refusals(session, name="folder")
    assert row.reason == "link"
    assert row.message.endswith("links are not followed; name what it points to, or use --follow-links")


def test_only_links_are_refused_on_record_too(lite_site: Site, night: Path) -> None:
    (night.parent / "given").symlink_to(night)
    assert reasons(raw(lite_site, night.parent / "given")) == {"given": "link"}
    with lite_site.database.reading() as session:
        assert [row.reason for row in refusals(session)] == ["link"]


def test_links_are_followed_on_request_and_folders_entered_once(lite_site: Site, night: Path) -> None:
    private = night.parent / "private"
    (private / "back").symlink_to(night)
    (night / "folder").symlink_to(private)
    (night / "loop").symlink_to("loop")
    result = raw(lite_site, night, follow_links=True)
    assert [each.name for each in result.registered] == ["cam_0001.fits", "secret.fits"]
    assert reasons(result) == {"loop": "unreadable"}
    with pytest.raises(RequestRefused, match="a link that is moved leaves what it points to behind"):
        raw(lite_site, night, follow_links=True, mode=Mode.MOVE)


def test_a_path_that_leads_through_a_link_is_what_was_asked_for(lite_site: Site, night: Path) -> None:
    (night.parent / "data").symlink_to(night.parent)
    result = raw(lite_site, night.parent / "data" / "night")
    assert [each.name for each in result.registered] == ["cam_0001.fits"]


def test_a_link_planted_between_listing_and_opening_is_refused(lite_site: Site, night: Path) -> None:
    deliver(night / "sub", 1, OBJECT="M 31")
    found = find_files([night])
    (night / "cam_0001.fits").unlink()
    (night / "cam_0001.fits").symlink_to("../private/secret.fits")
    (night / "sub").rename(night.parent / "away")
    (night / "sub").symlink_to("../away")
    file_type = lite_site.config.file_types["raw_science"]
    with ThreadPoolExecutor(1) as pool:
        outcomes = list(arrivals.inspect_all(found.files, Sorting((), file_type), lite_site.config.spool, pool))
    assert [outcome.reason for outcome in outcomes if isinstance(outcome, arrivals.Refused)] == ["link", "link"]


@pytest.mark.parametrize("mode", [Mode.COPY, Mode.LINK, Mode.MOVE])
@pytest.mark.parametrize("plant", ["link", "file", "fifo"])
def test_another_file_planted_between_reading_and_copying_is_not_taken(
    lite_site: Site, night: Path, monkeypatch: pytest.MonkeyPatch, mode: Mode, plant: str
) -> None:
    def swap(path: Path) -> None:
        path.rename(path.with_name(".old"))
        if plant == "link":
            path.symlink_to("../private/secret.fits")
        elif plant == "fifo":
            os.mkfifo(path)
        else:
            path.write_bytes(path.with_name(".old").read_bytes())

    after_inspection(monkeypatch, swap)
    result = raw(lite_site, night, mode=mode)
    assert (result.registered, reasons(result)) == ([], {"cam_0001.fits": "link" if plant == "link" else "changed"})
    assert stored(lite_site.config.directory) == {}
    assert os.path.lexists(night / "cam_0001.fits")


# ------------------------------------------------------------------------------------- bytes that change


@pytest.mark.req("X36")
@pytest.mark.parametrize("mode", Mode)
def test_bytes_that_change_behind_an_old_time_are_not_registered(
    site: Site, night: Path, monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    if mode is Mode.IN_PLACE:
        (site.config.directory / "stores/backbone/archive").mkdir()
        night = night.rename(site.config.directory / "stores/backbone/archive/night")

    def write_and_put_the_time_back(path: Path) -> None:
        before = path.stat()
        with path.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"!")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    before = stored(site.config.directory)
    after_inspection(monkeypatch, write_and_put_the_time_back)
    result = raw(site, night, mode=mode)
    assert (result.registered, reasons(result)) == ([], {"cam_0001.fits": "changed"})
    assert (night / "cam_0001.fits").exists()
    assert stored(site.config.directory).keys() == before.keys()


def test_a_source_that_changes_after_its_copy_is_not_removed(
    lite_site: Site, night: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reveal = Placement.reveal

    def reveal_and_write(self: Placement, arrival: arrivals.Arrival, path: str) -> bool:
        before = arrival.path.stat()
        arrival.path.write_bytes(frame(1, OBJECT="M 31"))
        os.utime(arrival.path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return reveal(self, arrival, path)

    monkeypatch.setattr(Placement, "reveal", reveal_and_write)
    result = raw(lite_site, night, mode=Mode.MOVE)
    assert [each.name for each in result.registered] == ["cam_0001.fits"]
    assert result.left == [night / "cam_0001.fits"]


# ------------------------------------------------------------------------------- what would go unsaid


def test_hidden_files_are_told(lite_site: Site, night: Path) -> None:
    (night / ".cam_0002.fits.Xy12").write_bytes(frame(2)[:1000])
    (night / ".trash").mkdir()
    (night / ".trash" / "old.fits").write_bytes(frame(3))
    result = raw(lite_site, night)
    assert (len(result.registered), result.hidden) == (1, [night / ".cam_0002.fits.Xy12", night / ".trash"])
    (night / "cam_0001.fits").unlink()
    with pytest.raises(RequestRefused, match=r"there are no files in .*night, but for 2 hidden"):
        raw(lite_site, night)


def test_a_folder_that_cannot_be_listed_is_refused_by_name() -> None:
    with TemporaryDirectory() as made:  # pytest closes its own folders to others, whenever another pytest begins
        folder = Path(made)
        deliver(folder / "night" / "closed", 1)
        deliver(folder / "night" / "open", 1)
        for each in (folder, folder / "night", folder / "night" / "open"):  # whatever umask a site left behind
            each.chmod(0o755)
        (folder / "night" / "closed").chmod(0)
        found = as_nobody(lambda: _listed(folder / "night"))
    assert found == {"files": ["cam_0001.fits"], "refused": [["closed", "unreadable"]]}


def _listed(folder: Path) -> dict[str, Any]:
    found = find_files([folder])
    return {
        "files": [file.path.name for file in found.files],
        "refused": [(each.path.name, each.reason) for each in found.refused],
    }


def test_folders_in_folders_in_folders_are_no_matter_of_recursion(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(1_500):
            os.mkdir("a", dir_fd=descriptor)
            below = os.open("a", os.O_RDONLY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
    finally:
        os.close(descriptor)
    assert find_files([tmp_path]).refused == []
    subprocess.run(["rm", "-r", str(tmp_path / "a")], check=True)  # pytest would go down by recursion


# ---------------------------------------------------------------------------------------- the locks


def test_one_ingest_at_a_time_brings_files_into_a_store_and_the_next_is_told_whom_it_waits_for(
    lite_site: Site, night: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nightmill.operations.ingest.placement.QUIET_SECONDS", 0.0)
    stager = lite_site.stagers["backbone"]
    locks = lite_site.private
    told: list[str] = []
    said = threading.Event()

    def tell(words: str) -> None:
        told.append(words)
        said.set()

    none = lite_site.transfers
    with Placement(stager, "backbone", Mode.COPY, locks, transfers=none, who="grace").alone():
        with Placement(stager, "archive", Mode.COPY, locks, transfers=none, who="ada").alone():
            pass  # another store is another matter
        waiting = threading.Thread(target=lambda: raw(lite_site, night, tell=tell))
        waiting.start()
        assert said.wait(60)
        assert stored(lite_site.config.directory) == {}
    waiting.join(60)
    assert len(told) == 1
    assert told[0].startswith(f"waiting for grace (process {os.getpid()} on ")
    assert told[0].endswith(" UTC), who brings files into store 'backbone'")
    assert list(stored(lite_site.config.directory)) == ["raw/20260110/cam_0001.fits"]
