"""What campaigns come to is told once, by real commands, web servers and mail servers."""

from __future__ import annotations

import json
import socketserver
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from nightmill.backbone.schema import ExecutionRow, NotificationRow
from nightmill.clock import utc_now
from nightmill.config.site import load_site
from nightmill.errors import ConfigErrors
from nightmill.operations.holding import Which, hold
from nightmill.operations.notify import await_told, notify
from nightmill.operations.rerun import rerun
from tests.examples.campaigns import conduct
from tests.support.observatory import Observatory


class _Hook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.append(json.loads(body))  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Mailbox(socketserver.StreamRequestHandler):
    """As much of SMTP as a letter needs."""

    def handle(self) -> None:
        self.wfile.write(b"220 sink\r\n")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                letter = b"".join(iter(self.rfile.readline, b".\r\n"))
                self.server.told.append(letter.decode())  # type: ignore[attr-defined]
            self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
            if verb == b"QUIT":
                return


@contextmanager
def served(kind: Any, handler: Any) -> Iterator[tuple[int, list[Any]]]:
    with kind(("127.0.0.1", 0), handler) as server:
        server.told = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1], server.told
        finally:
            server.shutdown()
            thread.join()


def build(folder: Path, url: str, notifiers: str, *texts: str) -> Observatory:
    observatory = Observatory.build(folder / "site", url)
    with (observatory.directory / "nightmill.yaml").open("a") as file:
        file.write(f"notify:\n{notifiers}")
    observatory.observe(1, texts)
    observatory.submit("night1", 1)
    return observatory


def tell(observatory: Observatory, *, ended: bool = False) -> list[str]:
    """Tell what there is to tell, and return what failed."""
    warnings: list[str] = []
    with observatory.open() as site:
        await_told(notify(site, "night1", ended=ended, warn=warnings.append))
    return warnings


@pytest.mark.req("X26", "REQ-0045")
def test_failures_ends_and_holds_are_told_once_by_command_webhook_and_mail(database_url: str, tmp_path: Path) -> None:
    inbox, flag = tmp_path / "inbox", tmp_path / "flag"
    program = tmp_path / "tell.py"
    program.write_text(f"import sys; open({str(inbox)!r}, 'a').write(sys.stdin.read() + chr(10))")
    with served(HTTPServer, _Hook) as (web, hooked), served(socketserver.TCPServer, _Mailbox) as (post, letters):
        notifiers = (
            f"  - {{on: [failed], command: [{sys.executable}, {program}]}}\n"
            f"  - {{on: [ended], webhook: 'http://127.0.0.1:{web}/hook'}}\n"
            f"  - {{on: [held], mail: {{to: [mara@example.org], server: '127.0.0.1:{post}'}}}}\n"
        )
        observatory = build(tmp_path, database_url, notifiers, f"unless {flag}", "seconds 0", "seconds 0")
        with observatory.open() as site:
            hold(site, "night1", Which(("exposure=101",)), why="look at it", who="mara")
            conduct(site, "night1")
        for _ in range(2):
            assert tell(observatory, ended=True) == []
        [failed] = [json.loads(line) for line in inbox.read_text().splitlines()]
        expected = {"site": "observatory", "campaign": "night1", "event": "failed", "text": "1 of 3 jobs failed"}
        assert failed == expected
        [ended] = hooked
        assert ended["text"] == "the campaign has ended: of 3 jobs 1 held, 1 done, 1 failed"
        [letter] = letters
        assert "To: mara@example.org" in letter
        assert "Subject: observatory: night1: held" in letter
        assert "1 job waits for a person (operator): by mara: look at it" in letter

        with observatory.open() as site:
            rerun(site, "night1")
            conduct(site, "night1")
        assert tell(observatory, ended=True) == []
        assert (len(inbox.read_text().splitlines()), len(hooked), len(letters)) == (2, 2, 1), "it failed once more"


@pytest.mark.req("X26")
def test_a_step_that_runs_far_longer_than_those_before_is_told(database_url: str, tmp_path: Path) -> None:
    with served(HTTPServer, _Hook) as (web, hooked):
        notifier = f"  - {{on: [slow], webhook: 'http://127.0.0.1:{web}', slow_factor: 2}}\n"
        observatory = build(tmp_path, database_url, notifier, *["seconds 0"] * 6)
        with observatory.open() as site:
            conduct(site, "night1")
            last = (
                select(ExecutionRow.id).where(ExecutionRow.step == "detect").order_by(ExecutionRow.id.desc()).limit(1)
            )
            assert tell(observatory) == []
            assert hooked == []
            began_at = utc_now() - timedelta(minutes=10)
            site.database.write(
                lambda session: session.execute(
                    update(ExecutionRow)
                    .where(ExecutionRow.id.in_(last))
                    .values(state="running", began_at=began_at, ended_at=None, wall_seconds=None)
                )
            )
        for _ in range(2):
            assert tell(observatory) == []
        [told] = hooked
        assert told["event"] == "slow"
        assert told["text"].startswith("step 'detect' of science/exposure=10")
        assert "runs for 600 s; half of its runs took less than " in told["text"]


def test_a_notifier_that_fails_is_logged_and_nothing_else(tmp_path: Path) -> None:
    notifiers = (
        f"  - {{on: [ended], command: [{sys.executable}, -c, 'import sys; sys.exit(\"no modem\")']}}\n"
        "  - {on: [ended], command: [/no/such/program]}\n"
        "  - {on: [ended], webhook: 'http://127.0.0.1:9/hook'}\n"
        "  - {on: [ended], mail: {to: [mara@example.org], server: '127.0.0.1:9'}}\n"
    )
    observatory = build(tmp_path, "", notifiers, "seconds 0")
    warnings = sorted(tell(observatory, ended=True))
    assert len(warnings) == 4
    assert all("nobody was told by" in warning and "the campaign has ended" in warning for warning in warnings)
    assert any("it exited with code 1: no modem" in warning for warning in warnings)
    assert tell(observatory, ended=True) == [], "it is not tried again"
    with observatory.open() as site, site.database.reading() as session:
        assert len(list(session.scalars(select(NotificationRow.id)))) == 4


def test_processes_that_tell_at_the_same_time_tell_once(database_url: str, tmp_path: Path) -> None:
    with served(HTTPServer, _Hook) as (web, hooked):
        observatory = build(tmp_path, database_url, f"  - {{on: [ended], webhook: 'http://127.0.0.1:{web}'}}\n", "")
        threads = [threading.Thread(target=tell, args=[observatory], kwargs={"ended": True}) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(hooked) == 1


@pytest.mark.parametrize(
    ("notifier", "told"),
    [
        ("{on: [ended]}", "should be a notifier with one of 'command', 'webhook' and 'mail'"),
        ("{on: [ended], webhook: 'ftp://host'}", "a notifier whose 'webhook' is an http:// or https:// URL"),
        ("{on: [endet], command: [tell]}", "endet"),
        ("{on: [], command: [tell]}", "a notifier with something in 'on'"),
        ("{on: [ended], mail: {to: []}}", "somebody in 'mail.to'"),
    ],
)
def test_a_notifier_that_cannot_be_is_refused(tmp_path: Path, notifier: str, told: str) -> None:
    observatory = Observatory.build(tmp_path / "site")
    with (observatory.directory / "nightmill.yaml").open("a") as file:
        file.write(f"notify: [{notifier}]\n")
    with pytest.raises(ConfigErrors) as refused:
        load_site(observatory.directory)
    assert told in str(refused.value)
