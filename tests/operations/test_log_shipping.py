"""Lines of logs on their way to sinks: receivers that die, hang, answer with errors, and refuse."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from flows.hosting.service import ship_logs
from nightmill.clock import utc_now
from nightmill.config.server import ServerConfig
from nightmill.config.site import SiteConfig
from nightmill.errors import RequestRefused
from nightmill.execution.logs.lines import LineSpool
from nightmill.execution.logs.spooled import LOGS, sent_to, spooled
from nightmill.model.logs import LogsConfig, LogSink
from nightmill.operations.log_shipping import senders, shipping
from nightmill.operations.log_shipping.shipping import backlog, ship_for_ever, ship_once
from tests.support.syslog import make_authority, syslog_ng


def site(root: Path, **sinks: LogSink) -> SiteConfig:
    (root / "spool").mkdir(exist_ok=True)
    return SiteConfig(
        name="here",
        directory=root,
        database_url="",
        scratch=root / "scratch",
        spool=root / "spool",
        cache=root / "cache",
        stores={},
        file_types={},
        server=ServerConfig(),
        logs=LogsConfig(sinks=sinks),
    )


class Writer:
    """Writes lines as a worker does, numbered through."""

    def __init__(self, config: SiteConfig, name: str = "20260101-host-1") -> None:
        self.journal = config.spool / f"{name}.jsonl"
        self.journal.touch()
        self.spool = LineSpool(config.spool, name, "host", 1 << 30, utc_now)
        self.name, self.count = name, 0

    def write(self, lines: int) -> None:
        for number in range(self.count, self.count + lines):
            text = {"@timestamp": utc_now().isoformat(), "id": f"{self.name}-{number}", "message": "x" * 80}
            self.spool.add(json.dumps(text))
        self.count += lines
        self.spool.flush()

    def end(self) -> None:
        self.spool.close()
        self.journal.unlink()


def ids(received: list[dict[str, Any]]) -> Counter[str]:
    return Counter(each["id"] for each in received)


@contextmanager
def shipping_on(config: SiteConfig) -> Iterator[None]:
    stopping = threading.Event()
    thread = threading.Thread(target=ship_for_ever, args=[config, stopping])
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def until_nothing_waits(config: SiteConfig, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while any(each.size_bytes for each in backlog(config)):
        assert time.monotonic() < deadline, backlog(config)
        time.sleep(0.05)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have everything be tried again soon, in small batches."""
    monkeypatch.setattr(shipping, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(shipping, "PAUSES", (0.1,))
    monkeypatch.setattr(senders, "SETTLE_SECONDS", 0.1)
    monkeypatch.setattr(senders.StreamSender, "most_bytes", 1 << 17)
    monkeypatch.setattr(senders.PostSender, "most_bytes", 1 << 14)


@pytest.mark.usefixtures("hasty")
def test_no_line_is_lost_with_a_receiver_that_is_killed(tmp_path: Path) -> None:
    with syslog_ng(tmp_path / "receiver") as receiver:
        config = site(tmp_path, elk=LogSink(url=receiver.url))
        writers = [Writer(config, f"2026010{n}-host-1") for n in (1, 2)]
        with shipping_on(config):
            for _kill in range(4):
                for writer in writers:
                    writer.write(3000)
                time.sleep(0.17)  # in the middle of them
                receiver.kill()
                for writer in writers:
                    writer.write(500)
                time.sleep(0.1)
                receiver.start()
            for writer in writers:
                writer.end()
            until_nothing_waits(config)
        assert spooled(config.spool) == []
        assert sent_to(config.spool, "elk").trouble == ""
        time.sleep(1.0)  # it writes what it has read
        assert ids(receiver.received()).keys() == {f"{each.name}-{n}" for each in writers for n in range(14_000)}


def test_tls_is_verified(tmp_path: Path) -> None:
    with syslog_ng(tmp_path / "receiver", tls=True) as receiver:
        (tmp_path / "other").mkdir()
        make_authority(tmp_path / "other")
        trusting, stranger = (
            LogSink(url=receiver.url, ca=str(tmp_path / folder / "ca.pem")) for folder in ("receiver", "other")
        )
        config = site(tmp_path, trusted=trusting, stranger=stranger)
        writer = Writer(config)
        writer.write(1000)
        trusted, other = ship_once(config)
        writer.end()
        assert (trusted.lines, trusted.trouble, other.lines) == (1000, "", 0)
        assert "its certificate is not to be trusted: unable to get local issuer certificate" in other.trouble
        assert other.trouble.startswith(f"{receiver.url}: ")
        assert len(ids(receiver.received())) == 1000
        first, second = backlog(config)
        assert (first.size_bytes, first.trouble, second.trouble) == (0, "", other.trouble)
        assert second.size_bytes > 0
        assert second.oldest is not None
        assert len(spooled(config.spool)) == 1  # the other sink may have it yet


def test_a_receiver_that_reads_nothing_more_has_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senders, "SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:  # its kernel takes what comes
        config = site(tmp_path, hung=LogSink(url=f"tcp://127.0.0.1:{server.getsockname()[1]}"))
        Writer(config).write(10)
        (done,) = ship_once(config)
    assert (done.lines, "timed out" in done.trouble) == (0, True)
    assert sent_to(config.spool, "hung").bytes == {}


def test_a_receiver_that_ends_when_it_has_read_a_batch_has_nothing_for_certain(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def die() -> None:
            first, second = server.accept()[0], server.accept()[0]
            while first.recv(1 << 16):
                pass
            first.close()
            second.close()

        thread = threading.Thread(target=die)
        thread.start()
        config = site(tmp_path, elk=LogSink(url=f"tcp://127.0.0.1:{server.getsockname()[1]}"))
        Writer(config).write(10)
        (done,) = ship_once(config)
        thread.join()
    assert (done.lines, sent_to(config.spool, "elk").bytes) == (0, {})
    assert done.trouble.endswith("it ended when it had read what was sent")


class Faulty(BaseHTTPRequestHandler):
    """Answers as it is told to, then well."""

    answers: list[int | str]
    taken: list[dict[str, Any]]
    headers_seen: list[Mapping[str, str]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.headers_seen.append(dict(self.headers))
        answer = self.answers.pop(0) if self.answers else 204
        if answer == "hang":
            time.sleep(1.0)
            return
        if answer == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            self.connection.close()
            return
        lines = [json.loads(line) for line in body.splitlines()]
        if answer == 204 and any("poison" in line["message"] for line in lines):
            answer = 413 if len(lines) > 1 else 400
        if answer in (204, "taken, and not told"):
            self.taken += lines
        if answer == "taken, and not told":
            return
        self.send_response(int(answer))
        if answer == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    do_GET = do_POST  # noqa: N815 - of the base

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def http_sink(*answers: int | str, tls: Path | None = None) -> Iterator[tuple[type[Faulty], int]]:
    handler = type("Handler", (Faulty,), {"answers": list(answers), "taken": [], "headers_seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls / "cert.pem", tls / "key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=[0.05])
    thread.start()
    try:
        yield handler, server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.usefixtures("hasty")
def test_a_sink_of_http_that_fails_at_times_gets_every_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senders, "SECONDS", 0.5)
    with http_sink(500, "reset", 302, 429, 401, "hang", "taken, and not told", 503) as (handler, port):
        config = site(tmp_path, web=LogSink(url=f"http://mara:p%40ss@127.0.0.1:{port}/in", headers={"X-Of": "us"}))
        writer = Writer(config)
        writer.write(1000)
        with shipping_on(config):
            until_nothing_waits(config)
        found = ids(handler.taken)
        assert found.keys() == {f"{writer.name}-{n}" for n in range(1000)}
        assert set(found.values()) == {1, 2}  # what was taken and not told came again
        seen = handler.headers_seen[-1]
        assert (seen["X-Of"], seen["Authorization"]) == ("us", "Basic bWFyYTpwQHNz")
        assert seen["Content-Type"] == "application/x-ndjson"
        assert ("p%40ss" in sent_to(config.spool, "web").trouble) is False


def test_https_and_what_a_sink_will_never_take(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_authority(tmp_path)
    with http_sink(tls=tmp_path) as (handler, port):
        config = site(tmp_path, web=LogSink(url=f"https://localhost:{port}", ca=str(tmp_path / "ca.pem")))
        writer = Writer(config)
        writer.write(100)
        writer.spool.add(json.dumps({"id": "bad", "message": "poison"}))
        writer.write(100)
        (done,) = ship_once(config)
    assert (done.lines, done.refused, done.trouble) == (200, 1, "")
    assert len(ids(handler.taken)) == 200
    (aside,) = (config.spool / LOGS / shipping.REFUSED).iterdir()
    assert json.loads(aside.read_text())["id"] == "bad"
    assert "log sink web refused 1 lines" in caplog.text
    assert backlog(config)[0].refused == 1


def test_half_a_line_of_a_dead_worker_is_not_sent_and_one_ships_at_a_time(tmp_path: Path) -> None:
    with http_sink() as (handler, port):
        config = site(tmp_path, web=LogSink(url=f"http://127.0.0.1:{port}"))
        writer = Writer(config)
        writer.write(3)
        with spooled(config.spool)[0].open("a") as file:
            file.write('{"id": "torn')
        assert ship_once(config)[0].lines == 3
        assert len(spooled(config.spool)) == 1
        writer.end()
        assert ship_once(config)[0].lines == 0
        assert spooled(config.spool) == []
        with shipping._alone(config), pytest.raises(RequestRefused, match="another process sends the log lines"):
            ship_once(config)
        assert len(handler.taken) == 3
    with pytest.raises(RequestRefused, match="site 'here' names no sink"):
        ship_once(site(tmp_path))


@pytest.mark.usefixtures("hasty")
def test_the_runner_of_a_site_ships(tmp_path: Path) -> None:
    with http_sink() as (handler, port):
        (tmp_path / "types.yaml").write_text("file_types: {raw: {}}\n")
        sink = f'sinks: {{web: {{url: "http://127.0.0.1:{port}"}}}}'
        (tmp_path / "nightmill.yaml").write_text(
            f"site: here\nfile_types: [types.yaml]\nstores: {{backbone: {{url: stores}}}}\nlogs: {{{sink}}}\n"
        )
        config = site(tmp_path, web=LogSink(url=f"http://127.0.0.1:{port}"))
        writer = Writer(config)
        stopping = ship_logs(tmp_path)
        try:
            writer.write(10)
            until_nothing_waits(config)
        finally:
            stopping.set()
        assert len(handler.taken) == 10
