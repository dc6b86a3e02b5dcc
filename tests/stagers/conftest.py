"""Fixtures of the tests of stores: a server of SFTP, one of object storage, and what stands before it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stagers import endpoint
from stagers.objects import ObjectStager
from tests.stagers.buckets import LARGE, opened
from tests.support.faults import Proxy, proxy_of
from tests.support.seaweed import SeaweedServer
from tests.support.sshd import Sshd, running_sshd


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def prefix(seaweed: SeaweedServer) -> str:
    return seaweed.new_prefix()


@pytest.fixture
def stager(seaweed: SeaweedServer, prefix: str) -> ObjectStager:
    return opened(seaweed.url(prefix))


@pytest.fixture
def proxy(seaweed: SeaweedServer) -> Iterator[Proxy]:
    with proxy_of(seaweed.port) as proxy:
        yield proxy


@pytest.fixture
def behind(seaweed: SeaweedServer, prefix: str, proxy: Proxy) -> ObjectStager:
    """Give a stager of the same store, which reaches it through the proxy."""
    return opened(seaweed.url(prefix, endpoint=proxy.endpoint))


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(LARGE)
    return path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give stores that are opened from now on up after some tenths of a second."""
    monkeypatch.setattr(endpoint, "RETRIES", 1)
