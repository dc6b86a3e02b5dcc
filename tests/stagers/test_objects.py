"""A store in object storage, on a real server."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import obstore
import pytest

from nightmill.errors import BadPlugin, ConfigError, NameCollision, StoreError
from nightmill.execution.stores import open_stager
from nightmill.model.store import Store
from stagers import objects
from stagers.conformance import StagerConformance, publish
from stagers.objects import CLAIMS, PROBE, UPLOADS, ObjectStager
from stagers.readable import PATH, Opener
from tests.stagers.buckets import LARGE, Careless, keys, opened, put, serving
from tests.support.faults import Proxy
from tests.support.seaweed import KEY, SECRET, SeaweedServer


@pytest.fixture
def frame(tmp_path: Path) -> Path:
    path = tmp_path / "frame"
    path.write_bytes(b"pixels" * 1000)
    return path


@pytest.mark.req("X29")
class TestObjectStager(StagerConformance):
    @pytest.fixture
    def opener(self, seaweed: SeaweedServer) -> Opener:
        url = seaweed.url(seaweed.new_prefix())
        return lambda: opened(url)


# ------------------------------------------------------------------------------------------- opening


def test_the_scheme_and_the_secrets_of_the_url_open_it(seaweed: SeaweedServer, prefix: str, frame: Path) -> None:
    url = seaweed.url(prefix, key="${S3_KEY}", secret="${S3_SECRET}").replace("%7B", "{").replace("%7D", "}")
    written = url.replace("%24", "$")
    stager = open_stager(Store(name="backbone", url=written), {"S3_KEY": KEY, "S3_SECRET": SECRET})
    publish(stager, frame, "a/frame")
    assert stager.size("a/frame") == 6000


def test_without_obstore_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    for module in ("stagers.objects", "stagers.endpoint"):
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(BadPlugin, match=r"stager 's3' of .*obstore.*; pip install 'nightmill\[s3\]'"):
        open_stager(Store(name="backbone", url="s3://survey/x"), {})


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("s3://survey/p?acces_key_id=x", r"option 'acces_key_id', .* not know \(did you mean 'access_key_id'\?\)"),
        ("s3:///p", "does not name a bucket and a prefix alone; write s3://bucket/prefix"),
        ("s3://key:hidden@survey/p", r"'s3://key:\*\*\*@survey/p' does not name a bucket"),
        ("gs://survey/p?service_account_key=hidden", r"store 'backbone' \(gs://survey/p\) cannot be opened"),
        ("az://survey/p?account_name=a&account_key=not+base64", r"store 'backbone' \(az://survey/p\) cannot be opened"),
    ],
)
def test_a_url_that_cannot_be_opened_is_told(url: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        opened(url)
    assert "hidden" not in str(caught.value)


def test_other_clouds_are_opened_by_the_same_code() -> None:
    assert opened("gs://survey/p?skip_signature=true").endpoint.place == "gs://survey/p"
    assert opened("az://survey/p?account_name=night&skip_signature=true").endpoint.place == "az://survey/p"


def test_a_server_that_would_overwrite_is_refused(frame: Path) -> None:
    with serving(Careless) as place:
        stager = opened(f"s3://survey/p?endpoint={place}&skip_signature=true")
        for _ in range(2):
            with pytest.raises(StoreError, match=r"overwrites objects that exist: .* If-None-Match.*; use a server"):
                stager.upload(frame, "a/frame", attempt="a01")


def test_the_probe_takes_one_request_a_process(
    behind: ObjectStager, proxy: Proxy, frame: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []

    def look(request: bytes) -> bool:
        seen.append(request.partition(b"\r\n")[0])
        return False

    proxy.loses = look
    for number in range(3):
        behind.upload(frame, f"a/{number}", attempt="a01")
    assert len([line for line in seen if PROBE.encode() in line]) == 2, "it was made, and tried"
    monkeypatch.setattr(objects, "_probed", set())
    behind.upload(frame, "a/3", attempt="a01")
    assert len([line for line in seen if PROBE.encode() in line]) == 3


# --------------------------------------------------------------------------------- names, and crashes


def test_a_large_file_goes_in_and_comes_out(stager: ObjectStager, large: Path, tmp_path: Path) -> None:
    publish(stager, large, "a/large")
    assert stager.fetch("a/large", tmp_path / "copy") == len(LARGE)
    assert (tmp_path / "copy").read_bytes() == LARGE
    assert stager.sha256("a/large") == sha256(LARGE).hexdigest()


def test_what_no_copy_can_hold_is_sent_again(
    stager: ObjectStager, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 copies 5 GiB; what is larger goes through this process, under the same claim."""
    monkeypatch.setattr(objects, "COPY_BYTES", 1 << 20)
    stager.upload(large, "a/large", attempt="a01")
    monkeypatch.setattr(objects, "CLAIM_TIME", timedelta(0))
    with pytest.raises(StoreError, match=r"'a/large' of 20971520 bytes was not published .* longer than 0:00:00"):
        stager.reveal("a/large", attempt="a01")
    assert stager.size("a/large") is None
    monkeypatch.setattr(objects, "CLAIM_TIME", timedelta(hours=1))
    stager.reveal("a/large", attempt="a01")
    assert stager.sha256("a/large") == sha256(LARGE).hexdigest()
    assert keys(stager) == ["a/large"]


@pytest.mark.parametrize("point", ["claimed", "copied", "cleaned up by half"])
def test_a_dead_attempt_is_finished_from_where_it_stood(
    seaweed: SeaweedServer, prefix: str, stager: ObjectStager, frame: Path, point: str
) -> None:
    stager.upload(frame, PATH, attempt="a01")
    key, claim = stager._upload_key(PATH, "a01"), stager._claim_key(PATH)
    put(stager, claim, b"a01")
    if point != "claimed":
        obstore.copy(stager.endpoint.client, key, PATH)
    if point == "cleaned up by half":
        obstore.delete(stager.endpoint.client, key)
        assert list(stager.uploads()) == [(claim, "a01")]
    other = opened(seaweed.url(prefix))
    if point != "cleaned up by half":
        other.reveal(PATH, attempt="a01")
    other.discard(PATH, attempt="a01")
    assert other.sha256(PATH) == sha256(frame.read_bytes()).hexdigest()
    assert keys(stager) == [PATH]


def test_a_claimed_name_that_another_had_before_is_a_collision(stager: ObjectStager, frame: Path) -> None:
    """The attempt died after its claim, and before it saw that the name is taken."""
    stager.upload(frame, PATH, attempt="a01")
    put(stager, stager._claim_key(PATH), b"a01")
    put(stager, PATH, b"another's")
    with pytest.raises(NameCollision, match=f"already holds '{PATH}'; it was not overwritten"):
        stager.reveal(PATH, attempt="a01")
    assert stager.size(PATH) == 9
    stager.discard(PATH, attempt="a01")
    assert keys(stager) == [PATH]


def test_the_claim_of_another_is_waited_for_and_lapses(
    stager: ObjectStager, frame: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stager.upload(frame, PATH, attempt="a02")
    claim = stager._claim_key(PATH)
    put(stager, claim, b"a01")
    monkeypatch.setattr(objects, "WAIT_SECONDS", 0.2)
    with pytest.raises(StoreError, match=rf"a01 claims the name since .*remove {claim}, which lapses after 1:00:00"):
        stager.reveal(PATH, attempt="a02")
    stager.discard(PATH, attempt="a02")
    assert keys(stager) == [claim], "another's claim is not taken away"
    stager.upload(frame, PATH, attempt="a02")
    monkeypatch.setattr(objects, "WAIT_SECONDS", 30.0)
    threading.Timer(0.3, lambda: stager.discard(PATH, attempt="a01")).start()
    stager.reveal(PATH, attempt="a02")
    assert keys(stager) == [PATH]


def test_of_many_that_take_a_lapsed_claim_over_one_has_it(
    seaweed: SeaweedServer, prefix: str, stager: ObjectStager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(stager, stager._claim_key(PATH), b"a00")
    attempts = [f"a{number:02d}" for number in range(1, 5)]
    for attempt in attempts:
        (tmp_path / attempt).write_bytes(attempt.encode())
        stager.upload(tmp_path / attempt, PATH, attempt=attempt)
    monkeypatch.setattr(objects, "CLAIM_TIME", timedelta(seconds=2))

    def reveal(attempt: str) -> str:
        try:
            opened(seaweed.url(prefix)).reveal(PATH, attempt=attempt)
        except NameCollision:
            return ""
        return attempt

    with ThreadPoolExecutor(4) as pool:
        [won] = filter(None, pool.map(reveal, attempts))
    assert stager.sha256(PATH) == sha256(won.encode()).hexdigest()


@pytest.mark.parametrize("lost", [CLAIMS, PATH, f"{UPLOADS}a01"], ids=["claim", "copy", "upload"])
def test_an_answer_that_is_lost_changes_nothing(
    stager: ObjectStager, behind: ObjectStager, proxy: Proxy, frame: Path, lost: str
) -> None:
    """What was done is not taken for another's when it is tried again."""
    proxy.loses = lambda request: (
        request.startswith(b"PUT") and lost.encode() in request.partition(b"\r\n")[0] and not proxy.lost
    )
    publish(behind, frame, PATH)
    assert len(proxy.lost) == 1
    assert stager.sha256(PATH) == sha256(frame.read_bytes()).hexdigest()
    assert keys(stager) == [PATH]
