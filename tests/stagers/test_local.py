"""A store that is a folder."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightmill.errors import NameCollision, StoreError, StoreFull, UnknownName
from nightmill.execution.stores import open_stager, open_stagers
from nightmill.model.access import Access
from nightmill.model.store import Store
from stagers.conformance import StagerConformance, publish
from stagers.local import LocalStager
from stagers.readable import Opener
from tests.support.mounts import fill, make_read_only, small_disk


def open_folder(folder: Path) -> LocalStager:
    folder.mkdir(exist_ok=True)
    return LocalStager(Store(name="backbone", url=folder.as_uri()))


class TestLocalStager(StagerConformance):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return lambda: open_folder(tmp_path / "a store")


class TestLocalStagerOnAnotherDisk(StagerConformance):
    """Where neither reflinks nor links can lead from the scratch into the store."""

    @pytest.fixture
    def opener(self, tmp_path: Path) -> Iterator[Opener]:
        with small_disk(tmp_path / "disk", size="200m") as disk:
            yield lambda: open_folder(disk)


@pytest.fixture
def frame(tmp_path: Path) -> Path:
    path = tmp_path / "frame"
    path.write_bytes(bytes(100_000))
    return path


def temporary_files(store: Path) -> list[Path]:
    return sorted(store.rglob(".*.part"))


def test_the_scheme_of_the_url_picks_the_stager(tmp_path: Path) -> None:
    opened = open_stagers(
        {
            "one": Store(name="one", url=str(tmp_path)),
            "two": Store(name="two", url=f"file://{tmp_path}/with%20space"),
        },
        {},
    )
    assert [str(stager.root) for stager in opened.values() if isinstance(stager, LocalStager)] == [
        str(tmp_path),
        f"{tmp_path}/with space",
    ]


def test_an_unknown_scheme_is_refused_with_a_guess() -> None:
    with pytest.raises(UnknownName, match=r"no stager named 'fil' \(did you mean 'file'\?\); store 'x' has the URL"):
        open_stager(Store(name="x", url="fil:///data"), {})


@pytest.mark.parametrize("umask", [0o000, 0o077])
@pytest.mark.parametrize(("access", "mode"), [("private", 0o400), ("group", 0o440), ("all", 0o444)])
def test_a_stored_file_is_as_open_as_its_store_says_and_not_writable(
    tmp_path: Path, frame: Path, access: str, mode: int, umask: int
) -> None:
    frame.chmod(0o600)
    os.umask(umask)
    (tmp_path / "store").mkdir()
    stager = LocalStager(Store(name="x", url=(tmp_path / "store").as_uri(), access=Access(access)))
    publish(stager, frame, "a/frame")
    stored = tmp_path / "store" / "a" / "frame"
    assert stored.stat().st_mode & 0o777 == mode
    assert stored.stat().st_nlink == 1


def test_a_missing_store_folder_is_told_and_not_made(tmp_path: Path, frame: Path) -> None:
    gone = LocalStager(Store(name="archive", url=str(tmp_path / "mnt" / "archive")))
    for path in ("frame", "a/b/frame"):
        with pytest.raises(StoreError, match=r"the folder .*/mnt/archive of store 'archive' does not exist.*mounted"):
            gone.upload(frame, path, attempt="a01")
    assert not (tmp_path / "mnt").exists()


def test_a_full_store_is_told_and_keeps_nothing(tmp_path: Path, frame: Path) -> None:
    with small_disk(tmp_path / "disk", size="64k") as disk:
        stager = open_folder(disk)
        for path in ("frame", "new folder/frame"):
            with pytest.raises(
                StoreFull, match=rf"cannot write '{path}' in store 'backbone' \({disk}\): no space left"
            ):
                stager.upload(frame, path, attempt="a01")
        assert list(stager.list()) == []
        assert temporary_files(disk) == []
        small = tmp_path / "small"
        small.write_bytes(b"fits")
        publish(stager, small, "small")
        assert stager.size("small") == 4


def test_a_full_scratch_is_not_blamed_on_the_store(tmp_path: Path, frame: Path) -> None:
    stager = open_folder(tmp_path / "store")
    publish(stager, frame, "frame")
    with small_disk(tmp_path / "scratch", size="64k") as scratch:
        with pytest.raises(OSError, match="No space left on device") as caught:
            stager.fetch("frame", scratch / "copy")
        assert caught.value.filename == str(scratch / "copy")
        assert list(scratch.iterdir()) == []
        fill(scratch)
        with pytest.raises(OSError, match="No space left on device"):
            stager.fetch("frame", scratch / "copy")


def test_a_read_only_store_can_be_read(tmp_path: Path, frame: Path) -> None:
    with small_disk(tmp_path / "disk", size="1m") as disk:
        stager = open_folder(disk)
        publish(stager, frame, "frame")
        stager.upload(frame, "second", attempt="a01")
        make_read_only(disk)
        with pytest.raises(StoreError, match=r"cannot write 'third' in store 'backbone' .*: Read-only file system"):
            stager.upload(frame, "third", attempt="a01")
        with pytest.raises(StoreError, match=r"cannot publish 'second' in store 'backbone' .*: Read-only file system"):
            stager.reveal("second", attempt="a01")
        with pytest.raises(StoreError, match=r"cannot remove 'frame' in store 'backbone' .*: Read-only file system"):
            stager.remove("frame")
        assert stager.fetch("frame", tmp_path / "copy") == 100_000


def test_a_kill_while_uploading_leaves_nothing_visible(tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(2_000_000_000)
    store = tmp_path / "store"
    store.mkdir()
    code = (
        "import sys; from pathlib import Path; from stagers.local import LocalStager;"
        "from nightmill.model.store import Store;"
        "LocalStager(Store(name='s', url=sys.argv[1])).upload(Path(sys.argv[2]), 'a/big', attempt='a01')"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(store), str(big)])
    while not any(path.stat().st_size for path in temporary_files(store)):
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    stager = open_folder(store)
    assert list(stager.list()) == []
    half = stager.uploaded("a/big", attempt="a01")
    assert half is not None
    assert half[0] < 2_000_000_000
    stager.discard("a/big", attempt="a01")
    assert temporary_files(store) == []


def test_a_kill_between_link_and_unlink_leaves_one_whole_file(tmp_path: Path, frame: Path) -> None:
    stager = open_folder(tmp_path / "store")
    stager.upload(frame, "frame", attempt="a01")
    (left,) = temporary_files(tmp_path / "store")
    os.link(left, tmp_path / "store" / "frame")  # where a process that died in reveal() leaves it
    assert list(stager.list()) == [("frame", 100_000)]
    stager.discard("frame", attempt="a01")
    assert temporary_files(tmp_path / "store") == []
    assert stager.size("frame") == 100_000


def test_a_link_is_its_source_and_takes_no_name_twice(tmp_path: Path, frame: Path) -> None:
    stager = open_folder(tmp_path / "store")
    stager.link(frame, "new/frame", attempt="a01")
    assert stager.size("new/frame") is None
    stager.reveal("new/frame", attempt="a01")
    assert (tmp_path / "store" / "new" / "frame").samefile(frame)
    with pytest.raises(NameCollision, match="new/frame"):
        stager.link(frame, "new/frame", attempt="a02")
    assert temporary_files(tmp_path / "store") == []


def test_a_file_system_without_hard_links_is_told(tmp_path: Path, frame: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stager = open_folder(tmp_path / "store")
    stager.upload(frame, "frame", attempt="a01")

    def refused(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", str(source))

    monkeypatch.setattr(os, "link", refused)
    with pytest.raises(StoreError, match=r"cannot publish 'frame' in store 'backbone' .* seems to have none"):
        stager.reveal("frame", attempt="a01")
    assert stager.uploaded("frame", attempt="a01") is not None


def test_a_name_that_is_given_is_no_failure(tmp_path: Path, frame: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the temporary name stays, the file is published: an error would leave it behind, known to nobody."""
    stager = open_folder(tmp_path / "store")
    stager.upload(frame, "frame", attempt="a01")

    def broken(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(Path, "unlink", broken)
    stager.reveal("frame", attempt="a01")
    assert stager.size("frame") == 100_000


def test_new_folders_are_durable_up_to_the_store(tmp_path: Path, frame: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stager = open_folder(tmp_path / "store")
    synced: list[str] = []
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    publish(stager, frame, "a/b/frame")
    store = str(tmp_path / "store")
    folders = [path for path in synced if not path.endswith(".part")]
    assert folders == [store, f"{store}/a", f"{store}/a/b"]
    assert len(synced) == 4, "and the file itself"


def test_a_listing_that_cannot_be_made_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stager = open_folder(tmp_path / "store")

    def broken(folder: str) -> None:
        raise OSError(errno.EIO, "Input/output error", folder)

    monkeypatch.setattr(os, "scandir", broken)
    with pytest.raises(StoreError, match=r"cannot list .*/store: Input/output error"):
        list(stager.list())
