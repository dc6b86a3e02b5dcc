"""A store on another machine, by a real OpenSSH server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import asyncssh
import psutil
import pytest

from nightmill.errors import NameCollision, StoredFileMissing, StoreError, StoreFull
from nightmill.model.access import Access
from nightmill.model.store import Store
from stagers import common, ssh
from stagers.conformance import StagerConformance, publish
from stagers.readable import Opener
from stagers.sftp import SftpStager
from tests.support.mounts import small_disk
from tests.support.sshd import Sshd, running_sshd

CONTENT = os.urandom(300_000)


@pytest.fixture
def stager(sshd: Sshd, tmp_path: Path) -> SftpStager:
    return open_there(sshd, tmp_path / "store")


@pytest.fixture
def frame(tmp_path: Path) -> Path:
    path = tmp_path / "frame"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a transfer have several parts, and a new try begin at once."""
    monkeypatch.setattr(ssh, "BLOCK_BYTES", 64_000)
    monkeypatch.setattr("stagers.sftp.BLOCK_BYTES", 64_000)
    monkeypatch.setattr(common, "PAUSES_SECONDS", (0.0, 0.0, 0.0))


def open_there(sshd: Sshd, folder: Path, access: Access = Access.PRIVATE) -> SftpStager:
    folder.mkdir(exist_ok=True)
    return SftpStager(Store(name="far", url=sshd.url(folder), access=access))


@pytest.mark.req("X29")
class TestSftpStager(StagerConformance):
    @pytest.fixture
    def opener(self, tmp_path: Path, sshd: Sshd) -> Opener:
        return lambda: open_there(sshd, tmp_path / "a store")


# ---------------------------------------------------------------------------------------- what is stored


@pytest.mark.parametrize(("access", "mode", "folder"), [("private", 0o400, 0o700), ("group", 0o440, 0o2770)])
def test_a_stored_file_is_as_open_as_its_store_says(
    sshd: Sshd, tmp_path: Path, frame: Path, access: str, mode: int, folder: int
) -> None:
    stager = open_there(sshd, tmp_path / "store", Access(access))
    publish(stager, frame, "a/b/frame")
    stored = tmp_path / "store/a/b/frame"
    assert stored.stat().st_mode & 0o7777 == mode
    assert stored.stat().st_nlink == 1
    assert [each.stat().st_mode & 0o7777 for each in stored.parents[:2]] == [folder, folder]


def test_odd_names_come_back(stager: SftpStager, frame: Path) -> None:
    name = "night 1/a+b=50%#1?é\u2028'\"$(id).fits"
    publish(stager, frame, name)
    assert list(stager.list()) == [(name, len(CONTENT))]


def test_what_was_exchanged_after_it_was_read_is_not_published(stager: SftpStager, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"what the gate saw")
    stager.upload(tmp_path / "one", "a/one", attempt="a01")
    stager.uploaded("a/one", attempt="a01")
    [temporary] = (tmp_path / "store/a").iterdir()
    temporary.unlink()
    temporary.write_bytes(b"what another sent")  # of the same size, in the same second
    with pytest.raises(StoreError, match="'a/one' was changed in store 'far' between its verification and its"):
        stager.reveal("a/one", attempt="a01")
    assert stager.size("a/one") is None


def test_files_and_their_names_are_made_durable(
    stager: SftpStager, frame: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    opened, fsync = asyncssh.SFTPClient.open, asyncssh.SFTPClientFile.fsync

    def spy_open(self: asyncssh.SFTPClient, path: Any, *more: Any, **options: Any) -> Any:
        synced.append(str(path))
        return opened(self, path, *more, **options)

    async def spy(self: asyncssh.SFTPClientFile) -> None:
        await fsync(self)
        synced.append("synced")

    monkeypatch.setattr(asyncssh.SFTPClient, "open", spy_open)
    monkeypatch.setattr(asyncssh.SFTPClientFile, "fsync", spy)
    publish(stager, frame, "a/b/frame")
    store = str(tmp_path / "store")
    [temporary] = [path for path in synced if path.endswith(".part")]
    folders = [store, f"{store}/a", temporary, f"{store}/a/b"]
    assert synced == [each for folder in folders for each in (folder, "synced")]


@pytest.mark.parametrize("denied", ["fsync", "hardlink"])
def test_what_a_server_lacks(tmp_path: Path, frame: Path, denied: str) -> None:
    with running_sshd(tmp_path / "sshd", f"Subsystem sftp internal-sftp -P {denied}") as sshd:
        stager = open_there(sshd, tmp_path / "store")
        if denied == "fsync":
            publish(stager, frame, "a/frame")
            assert stager.size("a/frame") == len(CONTENT)
            return
        stager.upload(frame, "a/frame", attempt="a01")
        with pytest.raises(StoreError, match=r"cannot publish 'a/frame' .*: its server has no hard links .*; use Open"):
            stager.reveal("a/frame", attempt="a01")
        assert stager.size("a/frame") is None


# ----------------------------------------------------------------------------------------- what may go wrong


def test_a_missing_store_folder_is_told_and_not_made(sshd: Sshd, tmp_path: Path, frame: Path) -> None:
    gone = SftpStager(Store(name="archive", url=sshd.url(tmp_path / "mnt/archive")))
    told = r"the folder of store 'archive' \(sftp://.*/mnt/archive\) does not exist; make it on that machine"
    for path in ("frame", "a/b/frame"):
        with pytest.raises(StoreError, match=told):
            gone.upload(frame, path, attempt="a01")
    with pytest.raises(StoreError, match=told):
        gone.fetch("frame", tmp_path / "copy")
    with pytest.raises(StoreError, match=told):
        list(gone.list())
    assert not (tmp_path / "mnt").exists()


def test_a_full_store_is_told_and_keeps_nothing(sshd: Sshd, tmp_path: Path, frame: Path) -> None:
    with small_disk(tmp_path / "disk", size="64k") as disk:
        stager = open_there(sshd, disk)
        for path in ("frame", "new folder/frame"):
            with pytest.raises(StoreFull, match=rf"cannot write '{path}' in store 'far' .*: no space left; make room"):
                stager.upload(frame, path, attempt="a01")
        assert list(stager.list()) == []
        assert list(stager.uploads()) == []
        frame.write_bytes(b"fits")
        publish(stager, frame, "small")
        assert stager.size("small") == 4


def test_a_full_scratch_is_not_blamed_on_the_store(stager: SftpStager, tmp_path: Path, frame: Path) -> None:
    publish(stager, frame, "frame")
    with small_disk(tmp_path / "scratch", size="64k") as scratch:
        with pytest.raises(OSError, match="No space left on device") as caught:
            stager.fetch("frame", scratch / "copy")
        assert caught.value.filename == str(scratch / "copy")
        assert list(scratch.iterdir()) == []


def test_a_read_only_server_can_be_read(tmp_path: Path, frame: Path) -> None:
    with running_sshd(tmp_path / "sshd", "Subsystem sftp internal-sftp -R") as sshd:
        stager = open_there(sshd, tmp_path / "store")
        (tmp_path / "store/frame").write_bytes(CONTENT)
        assert stager.fetch("frame", tmp_path / "copy") == len(CONTENT)
        with pytest.raises(StoreError, match=r"cannot write 'second' in store 'far' .*: Permission denied"):
            stager.upload(frame, "second", attempt="a01")
        with pytest.raises(StoreError, match=r"cannot remove 'frame' in store 'far' .*: Permission denied"):
            stager.remove("frame")


def test_no_symbolic_link_leads_out(stager: SftpStager, tmp_path: Path, frame: Path) -> None:
    """Neither of a file nor of a folder above it; one that stays inside is followed, and no list shows it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    publish(stager, frame, "a/frame")
    store = tmp_path / "store"
    (store / "file").symlink_to(outside / "secret")
    (store / "folder").symlink_to(outside)
    (store / "same").symlink_to("a/frame")
    refused = "is not a path inside of store 'far': a symbolic link leads it to .*/outside"
    for path in ("file", "folder/secret"):
        with pytest.raises(StoreError, match=f"'{path}' {refused}"):
            stager.size(path)
        with pytest.raises(StoreError, match=f"'{path}' {refused}"):
            stager.sha256(path)
        with pytest.raises(StoreError, match=f"'{path}' {refused}"):
            stager.fetch(path, tmp_path / "copy")
    for path in ("folder/new", "folder/deep/new"):
        with pytest.raises(StoreError, match=refused):
            stager.upload(frame, path, attempt="a01")
    with pytest.raises(StoreError, match=refused):
        stager.remove("folder/secret")
    with pytest.raises(NameCollision):
        stager.upload(frame, "file", attempt="a01")
    assert [each.name for each in outside.iterdir()] == ["secret"]
    assert stager.size("same") == len(CONTENT)
    assert list(stager.list()) == [("a/frame", len(CONTENT))]
    stager.remove("file")
    assert (outside / "secret").read_bytes() == b"secret"


# --------------------------------------------------------------------------------------------- connections


@pytest.mark.usefixtures("small_blocks")
def test_an_interrupted_copy_goes_on_where_it_ended(
    sshd: Sshd, stager: SftpStager, tmp_path: Path, frame: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(stager, frame, "frame")
    write, cuts = common.NewFile.write, [2, 1]
    asked: list[int] = []
    read = asyncssh.SFTPClientFile.read

    def cut(self: common.NewFile, data: bytes) -> None:
        write(self, data)
        if cuts:
            cuts[0] -= 1
            if cuts[0] == 0:
                cuts.pop(0)
                sshd.cut()

    async def spy(self: asyncssh.SFTPClientFile, size: int, offset: int) -> Any:
        asked.append(offset)
        return await read(self, size, offset)

    monkeypatch.setattr(common.NewFile, "write", cut)
    monkeypatch.setattr(asyncssh.SFTPClientFile, "read", spy)
    assert stager.fetch("frame", tmp_path / "copy") == len(CONTENT)
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert asked.count(0) == 1, "no part that had come was asked for again"
    assert len(asked) <= 5 + 2


@pytest.mark.usefixtures("small_blocks")
def test_what_changes_while_it_is_read_is_refused(
    sshd: Sshd, stager: SftpStager, tmp_path: Path, frame: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(stager, frame, "frame")
    write = common.NewFile.write

    def cut(self: common.NewFile, data: bytes) -> None:
        write(self, data)
        stored = tmp_path / "store/frame"
        stored.unlink()
        stored.write_bytes(b"another")
        sshd.cut()

    monkeypatch.setattr(common.NewFile, "write", cut)
    with pytest.raises(StoreError, match=r"'frame' in store 'far' .* was changed while it was read"):
        stager.fetch("frame", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.usefixtures("small_blocks")
def test_an_interrupted_upload_begins_again(
    sshd: Sshd, stager: SftpStager, frame: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, cuts = asyncssh.SFTPClientFile.write, [3]

    async def cut(self: asyncssh.SFTPClientFile, data: Any, offset: int) -> int:
        written = await write(self, data, offset)
        cuts[0] -= 1
        if cuts[0] == 0:
            sshd.cut()
        return written

    monkeypatch.setattr(asyncssh.SFTPClientFile, "write", cut)
    publish(stager, frame, "frame")
    assert stager.sha256("frame") == sha256(CONTENT).hexdigest()
    assert list(stager.uploads()) == []


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("mine", [True, False])
def test_a_name_whose_giving_nobody_heard_of(
    sshd: Sshd, stager: SftpStager, frame: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mine: bool
) -> None:
    """Where the connection breaks before the answer, the name may be given: to this upload, or to another's."""
    link = asyncssh.SFTPClient.link
    (tmp_path / "other").write_bytes(b"another's")
    open_there(sshd, tmp_path / "store").upload(tmp_path / "other", "frame", attempt="a02")

    async def cut(self: asyncssh.SFTPClient, old: Any, new: Any) -> None:
        monkeypatch.setattr(asyncssh.SFTPClient, "link", link)
        if mine:
            await link(self, old, new)
        else:
            open_there(sshd, tmp_path / "store").reveal("frame", attempt="a02")
        sshd.cut()
        await self.lstat(old)

    stager.upload(frame, "frame", attempt="a01")
    stager.uploaded("frame", attempt="a01")
    monkeypatch.setattr(asyncssh.SFTPClient, "link", cut)
    if mine:
        stager.reveal("frame", attempt="a01")
        assert (tmp_path / "store/frame").stat().st_mode & 0o777 == 0o400
        assert stager.sha256("frame") == sha256(CONTENT).hexdigest()
    else:
        with pytest.raises(NameCollision, match="'frame'"):
            stager.reveal("frame", attempt="a01")
        assert stager.size("frame") == 9


def test_a_server_that_does_not_answer_is_left_for_another_connection(
    sshd: Sshd, stager: SftpStager, frame: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(stager, frame, "frame")
    assert sshd._process is not None
    monkeypatch.setattr(ssh.Session.call, "__defaults__", (0.5,))
    stopped = psutil.Process(sshd._process.pid).children(recursive=True)
    for child in stopped:
        child.send_signal(signal.SIGSTOP)
    try:
        assert stager.size("frame") == len(CONTENT)
    finally:
        for child in stopped:
            child.send_signal(signal.SIGCONT)


def test_a_server_that_is_away_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "PAUSES_SECONDS", (0.0, 0.0, 0.0))
    with running_sshd(tmp_path / "sshd") as sshd:
        stager = open_there(sshd, tmp_path / "store")
        assert stager.size("frame") is None
    with pytest.raises(StoreError, match=r"cannot look at 'frame' in store 'far' .*: Connection refused; see whether"):
        stager.size("frame")


def test_connections_are_few_and_end(tmp_path: Path, frame: Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "IDLE_SECONDS", 0.3)
    sshd.cut()
    stager = open_there(sshd, tmp_path / "store")
    publish(stager, frame, "frame")
    with ThreadPoolExecutor(12) as pool:
        assert set(pool.map(lambda n: stager.fetch("frame", tmp_path / f"copy{n}"), range(24))) == {len(CONTENT)}
    assert sshd._process is not None
    server = psutil.Process(sshd._process.pid)
    assert 0 < len(server.children()) <= ssh.CONNECTIONS
    until = time.monotonic() + 20
    while server.children() and time.monotonic() < until:
        time.sleep(0.05)
    assert server.children() == []
    assert stager.size("frame") == len(CONTENT)


def test_a_forked_process_opens_connections_of_its_own(stager: SftpStager, frame: Path, tmp_path: Path) -> None:
    publish(stager, frame, "frame")
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if stager.fetch("frame", tmp_path / "copy") == len(CONTENT) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert stager.size("frame") == len(CONTENT)


def test_a_process_that_ends_leaves_no_connection_and_no_complaint(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    code = (
        "import sys; from stagers.sftp import SftpStager; from nightmill.model.store import Store;"
        "print(SftpStager(Store(name='s', url=sys.argv[1])).size('none'))"
    )
    asked = [sys.executable, "-X", "dev", "-W", "error", "-c", code, sshd.url(tmp_path / "store")]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("None\n", "", 0)


def test_a_copy_that_is_not_there_leaves_nothing(stager: SftpStager, tmp_path: Path) -> None:
    with pytest.raises(StoredFileMissing, match=r"cannot read 'none' in store 'far' \(sftp://.*\): it is not there"):
        stager.fetch("none", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
