"""What networks, servers and credentials do to a store in object storage."""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from nightmill.errors import StoreDenied, StoredFileMissing, StoreError, StoreFull
from stagers import endpoint
from stagers.conformance import publish
from stagers.objects import ObjectStager
from stagers.readable import PATH
from tests.stagers.buckets import LARGE, Careless, opened, put, serving
from tests.support.faults import Proxy
from tests.support.seaweed import KEY, SECRET, SeaweedServer


@pytest.fixture
def frame(tmp_path: Path) -> Path:
    path = tmp_path / "frame"
    path.write_bytes(b"pixels" * 1000)
    return path


def test_a_transfer_that_breaks_off_goes_on(
    stager: ObjectStager, behind: ObjectStager, proxy: Proxy, large: Path, tmp_path: Path
) -> None:
    publish(stager, large, "a/large")
    proxy.cut_after, proxy.cuts = 3_000_000, 4
    assert behind.fetch("a/large", tmp_path / "copy") == len(LARGE)
    assert (tmp_path / "copy").read_bytes() == LARGE
    assert proxy.cuts == 0


def test_a_transfer_that_cannot_go_on_leaves_nothing(
    stager: ObjectStager, seaweed: SeaweedServer, prefix: str, large: Path, tmp_path: Path, quick: None, proxy: Proxy
) -> None:
    publish(stager, large, "a/large")
    behind = opened(seaweed.url(prefix, endpoint=proxy.endpoint))
    proxy.cut_after = 100
    with pytest.raises(StoreError, match=rf"cannot read 'a/large' in store 'backbone' \(s3://survey/{prefix} at http"):
        behind.fetch("a/large", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    with pytest.raises(StoreError, match="cannot read 'a/large'"):
        behind.sha256("a/large")


def test_a_slow_transfer_ends(stager: ObjectStager, behind: ObjectStager, proxy: Proxy, large: Path) -> None:
    publish(stager, large, "a/large")
    proxy.pause_seconds = 0.003
    assert behind.sha256("a/large") == sha256(LARGE).hexdigest()


def test_a_server_that_says_nothing_is_given_up(
    seaweed: SeaweedServer, prefix: str, proxy: Proxy, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "SILENT_SECONDS", 0.2)
    behind = opened(seaweed.url(prefix, endpoint=proxy.endpoint))
    proxy.pause_seconds = 2.0
    with pytest.raises(StoreError, match=rf"cannot look at '{PATH}' in store 'backbone' .*; see whether its endpoint"):
        behind.size(PATH)


def test_what_was_altered_on_its_way_is_told(
    stager: ObjectStager, behind: ObjectStager, proxy: Proxy, frame: Path
) -> None:
    proxy.up = (b"pixels" * 3, b"pixelx" * 3)
    with pytest.raises(StoreError, match=rf"cannot write '{PATH}' in store .*BadDigest"):
        behind.upload(frame, PATH, attempt="a01")
    proxy.up = (b"", b"")
    behind.upload(frame, PATH, attempt="a01")
    proxy.down = (b"pixels" * 3, b"pixelx" * 3)
    size, digest = behind.uploaded(PATH, attempt="a01") or (0, "")
    assert size == 6000
    assert digest != sha256(frame.read_bytes()).hexdigest(), "the way down has no checksum: it is hashed when read"


def test_a_file_that_is_written_again_while_it_is_read_is_not_mixed(
    stager: ObjectStager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "PART_BYTES", 1 << 20)
    put(stager, "a/large", LARGE)
    _seen, parts = stager.endpoint.read("a/large")
    next(parts)
    put(stager, "a/large", LARGE[::-1])
    told = r"cannot read 'a/large' in store .*: it was changed meanwhile"
    with pytest.raises(StoreError, match=told), stager.endpoint.named("read", "a/large"):
        list(parts)


def test_a_server_that_is_away_is_told(quick: None, prefix: str) -> None:
    stager = opened(f"s3://survey/{prefix}?endpoint=http://127.0.0.1:1&access_key_id=a&secret_access_key=b")
    told = (
        rf"cannot look at 'a/b' in store 'backbone' \(s3://survey/{prefix} at http://127.0.0.1:1\): "
        r"HTTP error: .*; see whether its endpoint answers"
    )
    with pytest.raises(StoreError, match=told) as caught:
        stager.size("a/b")
    assert caught.value.retry_may_help


def test_a_host_without_keys_is_told(seaweed: SeaweedServer, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    stager = opened(f"s3://survey/p?endpoint={seaweed.endpoint}&metadata_endpoint=http://127.0.0.1:1")
    with pytest.raises(StoreError, match="neither its url nor this host has keys for it; see which keys the url"):
        stager.size(PATH)


@pytest.mark.parametrize(("key", "secret"), [("strange", SECRET), (KEY, "wrong")])
def test_wrong_keys_are_told_and_not_shown(
    seaweed: SeaweedServer, prefix: str, frame: Path, tmp_path: Path, key: str, secret: str
) -> None:
    stager = opened(seaweed.url(prefix, key=key, secret=secret))
    for act in (
        lambda: stager.upload(frame, PATH, attempt="a01"),
        lambda: stager.fetch(PATH, tmp_path / "copy"),
        lambda: stager.size(PATH),
        lambda: stager.uploaded(PATH, attempt="a01"),
        lambda: list(stager.list()),
    ):
        with pytest.raises(StoreError, match=r"it is not allowed: .*see which keys the url of the store has") as caught:
            act()
        assert secret not in str(caught.value)
    assert not (tmp_path / "copy").exists()


def test_a_bucket_that_vanishes_is_not_taken_for_lost_files(
    seaweed: SeaweedServer, frame: Path, tmp_path: Path
) -> None:
    """Whoever asks for a file whose store is gone must not learn that the file is."""
    seaweed.make_bucket("fleeting")
    stager = opened(seaweed.url("p", bucket="fleeting"))
    publish(stager, frame, PATH)
    stager.upload(frame, "b", attempt="a01")
    seaweed.remove_bucket("fleeting")
    for act in (
        lambda: stager.size(PATH),
        lambda: stager.sha256(PATH),
        lambda: stager.fetch(PATH, tmp_path / "copy"),
        lambda: stager.uploaded("b", attempt="a01"),
        lambda: stager.reveal("b", attempt="a01"),
        lambda: stager.upload(frame, "c", attempt="a01"),
        lambda: list(stager.list()),
        lambda: list(stager.uploads()),
        lambda: stager.remove(PATH),
        lambda: stager.discard("b", attempt="a01"),
    ):
        with pytest.raises(StoreError, match="the bucket does not exist; make it, or correct the url") as caught:
            act()
        assert not isinstance(caught.value, StoredFileMissing)
    assert not (tmp_path / "copy").exists()


def in_mid_transfer(behind: ObjectStager, proxy: Proxy, happens: Callable[[], None], target: Path) -> StoreError:
    """Have something happen before a part of a large file is asked for, and return what the transfer says."""

    def look(request: bytes) -> bool:
        if b"range: bytes=8388608-" in request.lower():
            happens()
        return False

    proxy.loses = look
    with pytest.raises(StoreError) as caught:
        behind.fetch("a/large", target)
    assert not target.exists()
    return caught.value


def test_a_bucket_that_vanishes_in_mid_transfer_is_told(
    seaweed: SeaweedServer, large: Path, tmp_path: Path, proxy: Proxy
) -> None:
    seaweed.make_bucket("passing")
    publish(opened(seaweed.url("p", bucket="passing")), large, "a/large")
    behind = opened(seaweed.url("p", bucket="passing", endpoint=proxy.endpoint))
    error = in_mid_transfer(behind, proxy, lambda: seaweed.remove_bucket("passing"), tmp_path / "copy")
    assert "cannot read 'a/large' in store 'backbone'" in error.message
    assert "the bucket does not exist" in error.message
    assert (type(error), error.retry_may_help) == (StoreError, True), "it may be mounted again, or made"


def test_a_credential_that_ceases_to_hold_in_mid_transfer_is_told_and_not_tried_again(
    stager: ObjectStager, behind: ObjectStager, large: Path, tmp_path: Path, proxy: Proxy
) -> None:
    publish(stager, large, "a/large")

    def cease() -> None:
        proxy.up = (f"Credential={KEY}/".encode(), f"Credential={'x' * len(KEY)}/".encode())

    error = in_mid_transfer(behind, proxy, cease, tmp_path / "copy")
    assert "cannot read 'a/large' in store 'backbone'" in error.message
    assert "it is not allowed: " in error.message
    assert (type(error), error.retry_may_help) == (StoreDenied, False)


@pytest.mark.parametrize(
    ("code", "kind", "told"),
    [
        ("ExpiredToken", StoreDenied, "its credentials have expired: ExpiredToken: why; renew them"),
        ("QuotaExceeded", StoreFull, "no space left: QuotaExceeded: why; make room"),
    ],
)
def test_what_a_server_says_is_told(
    prefix: str, frame: Path, code: str, kind: type[StoreError], told: str, quick: None
) -> None:
    """Answers that the server of the tests does not give."""

    class Refuses(Careless):
        status = 400
        body = f"<Error><Code>{code}</Code><Message>why</Message></Error>".encode()

    with serving(Refuses) as place:
        stager = opened(f"s3://survey/p?endpoint={place}&skip_signature=true")
        with pytest.raises(kind, match=told):
            stager.upload(frame, "a/frame", attempt="a01")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_of_a_process_that_used_it_is_told(stager: ObjectStager) -> None:
    """It would wait for ever for threads that it has not."""
    stager.size(PATH)
    child = os.fork()
    if child == 0:
        told = False
        try:
            stager.size(PATH)
        except StoreError as error:
            told = "this process is a fork of one that used it" in str(error)
        finally:
            os._exit(0 if told else 1)
    assert os.waitpid(child, 0)[1] == 0
