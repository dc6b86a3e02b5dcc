"""A store that a web server offers, by a real server on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from nightmill.errors import ConfigError, NameCollision, StoredFileMissing, StoreError
from nightmill.execution.stores import open_stager
from nightmill.model.store import Store
from stagers import common, http
from stagers.http import HttpStager
from stagers.readable import Opener, Put, ReadableConformance
from tests.support.web import Web, running_web

FRAME = "night1/frame.fits"
CONTENT = os.urandom(3_000_000)


@pytest.fixture
def web() -> Iterator[Web]:
    with running_web() as server:
        server.files[f"/archive/{FRAME}"] = CONTENT
        yield server


@pytest.fixture
def stager(web: Web) -> HttpStager:
    return HttpStager(Store(name="archive", url=f"{web.url}/archive"))


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "PAUSES_SECONDS", (0.0, 0.0, 0.0))


@pytest.mark.req("X29")
class TestHttpStager(ReadableConformance):
    @pytest.fixture
    def opener(self, web: Web) -> Opener:
        web.files.clear()
        return lambda: HttpStager(Store(name="archive", url=f"{web.url}/archive/"))

    @pytest.fixture
    def put(self, web: Web) -> Put:
        def put(source: Path, path: str) -> None:
            web.files[f"/archive/{path}"] = source.read_bytes()

        return put


# ------------------------------------------------------------------------------------------- what breaks


def test_an_interrupted_copy_goes_on_where_it_ended(web: Web, stager: HttpStager, tmp_path: Path) -> None:
    web.faults.extend(["cut", "503", "cut"])
    assert stager.fetch(FRAME, tmp_path / "copy") == len(CONTENT)
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert [asked for _method, _path, asked in web.seen] == [
        "",
        "bytes=1500000-",
        "bytes=1500000-",
        "bytes=2250000-",
    ]


@pytest.mark.parametrize("tags", [True, False])
def test_halves_of_two_versions_never_meet(web: Web, stager: HttpStager, tmp_path: Path, tags: bool) -> None:
    web.tags = tags
    web.faults.append("changed")
    stager.fetch(FRAME, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT[::-1]
    web.faults.append("changed")
    assert stager.sha256(FRAME) == sha256(CONTENT).hexdigest()


def test_without_tags_a_copy_begins_again_and_not_for_ever(web: Web, stager: HttpStager, tmp_path: Path) -> None:
    web.tags = False
    web.faults.extend(["cut"] * 20)
    with pytest.raises(StoreError, match=r"cannot read 'night1/frame.fits' in store 'archive' \(http://127.0.0.1"):
        stager.fetch(FRAME, tmp_path / "copy")
    assert len(web.seen) < 8
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("fault", ["long", "short"])
def test_a_wrong_length_is_seen(web: Web, stager: HttpStager, tmp_path: Path, fault: str) -> None:
    """What comes short is asked for again; what a server hides beyond the length that it tells cannot be known."""
    web.files[f"/archive/{FRAME}"] = b"0123456789" * 3
    web.faults.extend([fault] * 9)
    if fault == "short":
        assert stager.fetch(FRAME, tmp_path / "copy") == 20, "and the catalogue's size refuses it"
        return
    with pytest.raises(StoreError, match=r"cannot read 'night1/frame.fits'"):
        stager.fetch(FRAME, tmp_path / "copy")


def test_a_server_that_is_silent_is_given_up(
    web: Web, stager: HttpStager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_TIMEOUT", httpx.Timeout(0.2))
    web.faults.extend(["stall"] * 4)
    with pytest.raises(StoreError, match="it does not answer; see whether that server can be reached"):
        stager.fetch(FRAME, tmp_path / "copy")
    assert stager.size(FRAME) == len(CONTENT)


def test_a_server_that_is_busy_is_asked_again(web: Web, stager: HttpStager) -> None:
    web.faults.extend(["503", "429", "500"])
    assert stager.size(FRAME) == len(CONTENT)
    web.faults.extend(["502"] * 4)
    with pytest.raises(StoreError, match=r"cannot look at 'night1/frame.fits' in store 'archive' .*: 502 Bad Gateway"):
        stager.size(FRAME)


def test_a_server_that_is_away_is_told(tmp_path: Path) -> None:
    with running_web() as web:
        gone = HttpStager(Store(name="archive", url=web.url))
    with pytest.raises(StoreError, match=r"cannot read 'frame' in store 'archive' .*Connection refused"):
        gone.fetch("frame", tmp_path / "copy")


def test_statuses_are_told_for_what_they_are(web: Web, stager: HttpStager, tmp_path: Path) -> None:
    web.faults.append("410")
    with pytest.raises(StoredFileMissing, match=FRAME):
        stager.fetch(FRAME, tmp_path / "copy")
    web.faults.append("403")
    with pytest.raises(StoreError, match="403 Forbidden; see that the credential in the store's URL"):
        stager.fetch(FRAME, tmp_path / "copy")
    web.faults.append("418")
    with pytest.raises(StoreError, match="418"):
        stager.sha256(FRAME)
    assert len(web.seen) == 3, "none of them is tried again"


def test_a_server_without_head_tells_the_size_all_the_same(web: Web, stager: HttpStager) -> None:
    web.heads = False
    assert stager.size(FRAME) == len(CONTENT)
    assert stager.size("night1/other") is None


# --------------------------------------------------------------------------------- redirects and credentials


def test_redirects_are_followed_to_their_end(web: Web, stager: HttpStager) -> None:
    web.redirects["/archive/there"] = f"/archive/{FRAME}"
    assert stager.size("there") == len(CONTENT)
    web.redirects["/archive/round"] = "/archive/round"
    with pytest.raises(StoreError, match=r"cannot look at 'round' .*: it is redirected without end"):
        stager.size("round")
    web.redirects["/archive/out"] = "file:///etc/passwd"
    with pytest.raises(StoreError, match="cannot look at 'out'"):
        stager.size("out")


def test_nothing_leads_from_https_to_http(stager: HttpStager) -> None:
    request = httpx.Request("GET", "https://archive.example/frame")
    for target, refused in (("http://archive.example/frame", True), ("//other.example/frame", False)):
        response = httpx.Response(302, headers={"Location": target}, request=request)
        if refused:
            with pytest.raises(StoreError, match="redirects from https to http, which anybody on the way can read"):
                stager._must_stay_safe(response)
        else:
            stager._must_stay_safe(response)


def test_a_credential_is_sent_to_its_server_alone_and_never_told(web: Web, tmp_path: Path) -> None:
    web.authorization = "Basic dXNlcjpwQHNz"  # user:p@ss
    store = Store(name="archive", url=f"http://user:${{PASSWORD}}@127.0.0.1:{web.port}/archive")
    stager = open_stager(store, {"PASSWORD": "p@ss"})
    assert stager.fetch(FRAME, tmp_path / "copy") == len(CONTENT)
    with running_web() as other:
        other.files["/frame"] = b"x"
        other.authorization = web.authorization
        web.redirects["/archive/there"] = f"http://localhost:{other.port}/frame"
        with pytest.raises(StoreError, match="401 Unauthorized") as caught:
            stager.sha256("there")
    wrong = open_stager(store, {"PASSWORD": "wrong"})
    with pytest.raises(StoreError, match=r"\(http://user:\*\*\*@127.0.0.1:\d+/archive\): 401 Unauthorized") as caught:
        wrong.size(FRAME)
    assert "wrong" not in str(caught.value)


def test_odd_names_and_the_rest_of_the_url_arrive(web: Web) -> None:
    name = "night 1/a+b=50%#1?é.fits"
    web.files[f"/my archive/{name}"] = b"odd"
    stager = HttpStager(Store(name="archive", url=f"{web.url}/my%20archive/?token=abc"))
    assert stager.size(name) == 3
    assert web.seen[-1][1].endswith("?token=abc")
    with pytest.raises(StoredFileMissing, match=r"\(http://127.0.0.1:\d+/my%20archive/\)"):
        stager.sha256("none")


def test_a_url_without_a_host_is_refused() -> None:
    with pytest.raises(ConfigError, match="store 'archive' has the URL 'https:///data', which names no host"):
        HttpStager(Store(name="archive", url="https:///data"))


# ----------------------------------------------------------------------------------------------- read-only


def test_every_method_that_writes_is_refused(web: Web, stager: HttpStager, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"mine")
    read_only = "'new.fits' in store 'archive' .*: a store over HTTP is read-only; let outputs go to another store"
    with pytest.raises(StoreError, match=f"cannot write {read_only}"):
        stager.upload(source, "new.fits", attempt="a01")
    with pytest.raises(StoreError, match=f"cannot publish {read_only}"):
        stager.reveal("new.fits", attempt="a01")
    with pytest.raises(StoreError, match=f"cannot settle {read_only}"):
        stager.settle(["new.fits"])
    with pytest.raises(StoreError, match=f"cannot remove {read_only}"):
        stager.remove("new.fits")
    with pytest.raises(NameCollision, match=FRAME):
        stager.upload(source, FRAME, attempt="a01")
    with pytest.raises(StoreError, match=r"cannot list store 'archive' .*: HTTP has no lists of files"):
        list(stager.list())
    assert list(stager.uploads()) == []
    stager.discard("new.fits", attempt="a01")
    assert {method for method, _path, _range in web.seen} == {"HEAD"}
