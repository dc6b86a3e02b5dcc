"""Steps that print more than a disk can keep, or cut off what they have printed."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from nightmill.execution.live import LiveLog, Request
from nightmill.execution.logs.cut import Gap, StepLog, compact, next_data, next_hole, place_in_compact
from nightmill.model.fate import Fate
from nightmill.model.logs import NodeLogs
from nightmill.model.report import JobReport
from tests.execution.failing import FIRST
from tests.support.mounts import small_disk
from tests.support.orders import Bench, python, shell

MAX = 1 << 20
PRINT = "for n in range({lines}): print(f'{{n:099d}}')"
"""Prints lines of 100 bytes."""
LEFT_OUT = re.compile(r"^== (\d+) bytes \((\d+) lines\) of (\S+) are left out here$", re.MULTILINE)


@pytest.fixture
def small(bench: Bench) -> Bench:
    """Give a bench that keeps a MiB of what a step prints."""
    bench.logs = NodeLogs(max_bytes=MAX)
    return bench


def log_text(bench: Bench, report: JobReport) -> str:
    (log,) = [file for file in report.published if file.role == "log"]
    return (bench.root / "stores" / log.store / log.path).read_text()


def test_both_ends_of_a_huge_log_are_kept_and_what_is_left_out_is_counted(small: Bench) -> None:
    lines = 200_000
    order = small.order(
        python("chat", PRINT.format(lines=lines)), shell("next", "echo another; echo 1 > first.txt", FIRST)
    )
    report = small.run_one(order)
    text = log_text(small, report)
    assert report.fate is Fate.PUBLISHED
    assert len(text) < MAX + 10_000
    ((size, count, step),) = LEFT_OUT.findall(text)
    numbers = [int(line) for line in re.findall(r"^\d{99}$", text, re.MULTILINE)]
    first, last = [number for number in numbers if number < lines // 2], [n for n in numbers if n >= lines // 2]
    assert first == list(range(len(first)))
    assert last == list(range(lines - len(last), lines))
    assert (int(count), int(size), step) == (lines - len(numbers), 100 * (lines - len(numbers)), "chat")
    assert min(len(first), len(last)) > 0.4 * MAX / 100
    assert text.endswith("another\n")


def test_a_step_that_prints_more_than_its_disk_has_goes_on_unharmed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.logs = NodeLogs(max_bytes=MAX)
    slow = "import sys, time\nfor n in range(1200):\n    sys.stdout.write('x' * 99_999 + '\\n'); time.sleep(0.002)"
    with small_disk(bench.scratch, size="60m"):  # half of what the step prints
        report = bench.run_one(bench.order(python("chat", slow, FIRST).model_copy(update={"outputs": ()})))
    assert report.fate is Fate.PUBLISHED, report.evidence
    assert report.steps[0].exit_code == 0
    assert len(log_text(bench, report)) < MAX + 200_000


def test_where_no_hole_can_be_made_the_published_log_is_cut_all_the_same(
    small: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_file: int, _begin: int, _end: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("nightmill.execution.logs.cut.punch", refuse)
    report = small.run_one(small.order(python("chat", PRINT.format(lines=30_000))))
    assert len(log_text(small, report)) < MAX + 10_000
    assert "it took room until step 'chat' ended: Operation not supported" in caplog.text


def test_evidence_is_found_at_both_ends_of_a_huge_log(small: Bench) -> None:
    code = f"print('[ ERROR ] no flat field'); {PRINT.format(lines=60_000).replace(': ', ':' + chr(10) + ' ')}\nexit(3)"
    code = code.replace("; for", "\nfor")
    report = small.run_one(small.order(python("reduce", code)))
    first, *_rest = report.evidence.splitlines()
    assert first == "step 'reduce' exited with code 3: [ ERROR ] no flat field"
    assert report.evidence.splitlines()[-1] == f"{59_999:099d}"


@pytest.mark.parametrize("script", [": > ../log", "echo gone; echo lost > /dev/stderr"])
def test_a_step_that_cuts_its_log_off_is_told(bench: Bench, script: str) -> None:
    before = "echo " + "x" * 200
    report = bench.run_one(bench.order(shell("one", before), shell("two", f"{script}; echo after")))
    assert report.fate is Fate.PUBLISHED
    text = log_text(bench, report)
    assert re.search(r"^== two cut the log off: \d{3} bytes of it at least are lost$", text, re.MULTILINE)
    assert "after\n" in text


@pytest.mark.parametrize("at", [0, 150, 160, 300, 10_000, 29_999, 30_050])
def test_a_place_in_the_log_is_found_again_in_what_is_kept_of_it(tmp_path: Path, at: int) -> None:
    whole = os.open(tmp_path / "whole", os.O_RDWR | os.O_CREAT)
    os.write(whole, b"".join(f"{n:09d}\n".encode() for n in range(4000)))
    gaps = [Gap("one", 155, 20_155, 2000), Gap("two", 25_001, 30_001, 500)]
    kept = os.open(tmp_path / "kept", os.O_RDWR | os.O_CREAT)
    compact(whole, gaps, kept)
    text = os.pread(kept, 1 << 20, 0).decode()
    assert [int(match[1]) for match in LEFT_OUT.finditer(text)] == [20_010, 5010]
    place = place_in_compact(kept, at)
    expected = "== 20010 bytes" if 150 <= at < 20_160 else "== 5010 bytes" if 25_000 <= at < 30_010 else None
    if expected is None:
        assert text[place : place + 10] == os.pread(whole, 10, at).decode()
    else:
        assert text[place:].startswith(expected)
    for descriptor in (whole, kept):
        os.close(descriptor)


def test_who_follows_is_not_shown_zeros_for_what_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nightmill.execution.live.LOOK_SECONDS", 0.0)
    log = os.open(tmp_path / "log", os.O_RDWR | os.O_APPEND | os.O_CREAT)
    of_step = StepLog(log, "s", 0, 1 << 16)
    shows, request = LiveLog(tmp_path, "a01"), Request(tmp_path, "a01")
    with request:
        request.ask()
        os.write(log, b"begin\n")
        shows.look(log)
        os.write(log, b"y" * (1 << 20))
        assert of_step.look()  # it grows fast
        shows.look(log)
        shown = request.read(6)
    assert shown is not None
    assert shown.begins == next_data(log, 40_000) > 900_000
    assert set(shown.data) == {ord("y")}
    assert os.fstat(log).st_blocks * 512 < 200_000
    assert next_hole(log, 0) < 40_000
    os.close(log)
