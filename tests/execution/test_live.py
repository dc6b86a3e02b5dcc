"""Logs of running steps, shown in the spool to who asks."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightmill.errors import BadFile
from nightmill.execution import live
from nightmill.execution.live import HEAD_BYTES, LIVE, LiveLog, Request, Shown, sweep
from nightmill.execution.scratch import token
from nightmill.model.order import JobOrder
from tests.support.mounts import small_disk
from tests.support.orders import Bench, output, shell

SHOWN = "while ! grep -qs {what} {copy}; do sleep 0.02; done; "
"""Waits until the worker shows so much."""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Give an open log, which is looked at, and asked for, as often as that is called."""
    monkeypatch.setattr(live, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(live, "ASK_SECONDS", 0.0)
    descriptor = os.open(tmp_path / "log", os.O_RDWR | os.O_APPEND | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def look(shows: LiveLog, log: int, request: Request, at: int = 0) -> Shown | None:
    request.ask()
    shows.look(log)
    return request.read(at)


def files(spool: Path) -> list[str]:
    return sorted(path.name for path in (spool / LIVE).iterdir())


def test_nothing_is_shown_but_to_who_asks_and_as_long_as_he_does(
    tmp_path: Path, log: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shows = LiveLog(tmp_path, "a01")
    os.write(log, b"one\n")
    shows.look(log)
    assert not (tmp_path / LIVE).exists()
    with Request(tmp_path, "a01") as request:
        request.ask()
        assert (files(tmp_path), request.seen, request.read(0)) == (["a01"], False, None)
        assert look(shows, log, request) == Shown(0, b"one\n", "")
        os.write(log, b"tw\xff\x00")
        assert look(shows, log, request, at=4) == Shown(4, b"tw\xff\x00", "")
        assert request.seen
        request.ask()
    assert files(tmp_path) == ["a01.log"]
    os.write(log, b"three\n")
    monkeypatch.setattr(live, "SHOW_SECONDS", 0.0)
    Request(tmp_path, "a01").ask()  # of one who is killed
    shows.look(log)
    assert files(tmp_path) == []


def test_who_follows_sees_that_no_worker_answers(tmp_path: Path, log: int) -> None:
    with Request(tmp_path, "a01") as first, Request(tmp_path, "a01") as second:
        for request in (first, second, first, second):
            request.ask()
        time.sleep(0.05)
        assert {first.seen, second.seen} == {False}
        assert min(first.silent_seconds, second.silent_seconds) >= 0.05
        LiveLog(tmp_path, "a01").look(log)
        second.ask()
        first.ask()
        assert {first.seen, second.seen} == {True}
        first.withdraw()
        assert files(tmp_path) == ["a01", "a01.log"], "the request is the second's"
    assert files(tmp_path) == ["a01.log"]


def test_the_end_of_a_long_log_is_shown_and_no_more(tmp_path: Path, log: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "KEEP_BYTES", 100)
    shows, request = LiveLog(tmp_path, "a01"), Request(tmp_path, "a01")
    whole = b"".join(b"%09d\n" % number for number in range(200))
    at, seen = 0, b""
    for begins in range(0, len(whole), 50):
        os.write(log, whole[begins : begins + 50])
        shown = look(shows, log, request, at)
        assert shown is not None
        assert shown.begins == at, "each look finds what is new"
        seen, at = seen + shown.data, at + len(shown.data)
        assert (tmp_path / LIVE / "a01.log").stat().st_size <= HEAD_BYTES + 200
    assert seen == whole
    late = request.read(0)
    assert late is not None
    assert late.begins + len(late.data) == len(whole)
    assert len(late.data) >= 100
    os.write(log, whole)
    missed = look(shows, log, request, at)
    assert missed == Shown(2 * len(whole) - 100, whole[-100:], "")
    os.ftruncate(log, 3)
    assert look(shows, log, request, 2 * len(whole)) == Shown(2 * len(whole), b"", "")
    (tmp_path / LIVE / "a01.log").unlink()
    assert look(shows, log, request) == Shown(0, whole[:3], "")


@pytest.mark.parametrize("head", ["", "{}", '{"begins": 0, "ends": 100000000000000}', '{"begins": -5, "ends": 3}'])
def test_a_copy_that_somebody_wrote_is_not_believed(tmp_path: Path, head: str) -> None:
    (tmp_path / LIVE).mkdir()
    copy = tmp_path / LIVE / "a01.log"
    copy.write_text(head.ljust(HEAD_BYTES) + "abc")
    shown = Request(tmp_path, "a01").read(0)
    assert shown is None or shown == Shown(0, b"abc", "")
    copy.unlink()
    copy.symlink_to("/etc/passwd")
    with pytest.raises(BadFile, match=r"a01\.log is a symbolic link"):
        Request(tmp_path, "a01").read(0)


def asked(bench: Bench, script: str) -> tuple[JobOrder, Path, Request]:
    """Make an order of two steps, for whose log somebody asks before it begins."""
    copy = bench.spool / LIVE / f"{token(bench.order().attempt)}.log"
    steps = (
        shell("first", script.format(copy=copy), output("shown", "shown.txt")),
        shell("second", f"echo at last; {SHOWN.format(what='at.last', copy=copy)}"),
    )
    bench.spool.mkdir(exist_ok=True)
    request = Request(bench.spool, token(bench.order().attempt))
    request.ask()
    return bench.order(*steps), copy, request


def test_a_step_that_replaces_its_log_shows_nothing_but_what_it_wrote(bench: Bench) -> None:
    script = "echo mine; rm ../log; ln -s /etc/passwd ../log; " + SHOWN.replace("{what}", "^mine")
    order, _, _ = asked(bench, script + "cp {copy} ../../../shown; rm ../log; mkfifo ../log; echo > shown.txt")
    report = bench.run_one(order)
    assert report.fate == "bad_output"
    assert report.evidence.startswith("step 'first' removed or replaced ../log")
    seen = (bench.root / "shown").read_bytes()[HEAD_BYTES:]
    assert seen.startswith(b"== first: sh -c")
    assert seen.endswith(b"\nmine\n")
    assert files(bench.spool) == [], "the attempt has ended"


def test_the_log_goes_on_from_step_to_step(bench: Bench) -> None:
    order, _, _ = asked(bench, "echo mine; " + SHOWN.replace("{what}", "^mine") + "echo > shown.txt")
    assert bench.run_one(order).fate == "published"
    assert files(bench.spool) == []


@pytest.mark.parametrize("planted", ["link", "folder", "no folder"])
def test_what_somebody_puts_in_its_place_is_not_written_to(bench: Bench, tmp_path: Path, planted: str) -> None:
    order, copy, _ = asked(bench, "sleep 1; echo > shown.txt")
    target = tmp_path / "target"
    target.write_text("precious")
    if planted == "link":
        copy.symlink_to(target)
        copy.with_suffix(".new").symlink_to(target)
    elif planted == "folder":
        copy.mkdir()
    else:
        copy.with_suffix("").unlink()
        copy.parent.rmdir()
        copy.parent.symlink_to(tmp_path)
    order = order.model_copy(update={"steps": order.steps[:1]})
    assert bench.run_one(order).fate == "published"
    assert target.read_text() == "precious"
    assert copy.is_dir() if planted == "folder" else not os.path.lexists(copy)


@pytest.mark.parametrize(("room", "why"), [(None, "the spool has too little room"), (0, "No space left on device")])
def test_a_full_spool_is_told_and_no_step_fails(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, room: int | None, why: str
) -> None:
    if room is not None:
        monkeypatch.setattr(live, "ROOM_BYTES", room)
    with small_disk(bench.spool, size="400k"):
        order, copy, request = asked(
            bench,
            "yes | head -c 600000; while ! grep -qs room {copy} && ! grep -qs space {copy}; do sleep 0.02; done;"
            " cp {copy} ../../../shown; echo > shown.txt",
        )
        report = bench.run_one(order.model_copy(update={"steps": order.steps[:1]}))
        assert report.fate == "published", report.evidence
        assert files(bench.spool) == []
        assert f"cannot be shown in {bench.spool / LIVE}: {why}" in caplog.text
        copy.write_bytes((bench.root / "shown").read_bytes())
        shown = request.read(0)
        assert shown is not None
        assert (shown.data, shown.trouble) == (b"", why)


def test_a_log_is_shown_again_when_there_is_room(tmp_path: Path, log: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "ROOM_BYTES", 1 << 60)
    monkeypatch.setattr(live, "SHOW_SECONDS", 0.2)
    shows, request = LiveLog(tmp_path, "a01"), Request(tmp_path, "a01")
    os.write(log, b"one\n")
    assert look(shows, log, request) == Shown(0, b"", "the spool has too little room")
    monkeypatch.setattr(live, "ROOM_BYTES", 0)
    assert look(shows, log, request) == Shown(0, b"", "the spool has too little room"), "not at once"
    time.sleep(0.2)
    assert look(shows, log, request) == Shown(0, b"one\n", "")


def test_what_a_dead_worker_left_is_swept(tmp_path: Path) -> None:
    sweep(tmp_path, is_claimed=lambda name: False)
    (tmp_path / LIVE).mkdir()
    for name in ("a01", "a01.log", "a02", "a02.log", "a02.new"):
        (tmp_path / LIVE / name).touch()
    sweep(tmp_path, is_claimed=lambda name: name == "a01")
    assert files(tmp_path) == ["a01", "a01.log"]
