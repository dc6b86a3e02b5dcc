"""Lines of logs as JSON in the spool."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from nightmill.clock import utc_now
from nightmill.execution.logs import lines as lines_module
from nightmill.execution.logs.lines import AttemptLines, LineSpool
from nightmill.execution.logs.spooled import LOGS, over, spooled
from nightmill.model.fate import Fate
from nightmill.model.logs import LogLine, NodeLogs
from nightmill.model.order import AttemptKey
from tests.support.mounts import fill, small_disk
from tests.support.orders import Bench, python, shell

ATTEMPT = AttemptKey(campaign="night1", stage="science", unit="exposure=12", number=1)


def written(spool: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in spooled(spool) for line in path.read_text().splitlines()]


def messages(spool: Path, **of: object) -> list[str]:
    return [each["message"] for each in written(spool) if of.items() <= each.items()]


@pytest.fixture
def telling(bench: Bench) -> Bench:
    """Give a bench whose worker writes lines."""
    bench.logs = NodeLogs(lines=True)
    return bench


def test_a_site_that_wants_no_lines_has_no_files(bench: Bench) -> None:
    bench.run_one(bench.order(shell("s", "echo hello")))
    assert not (bench.spool / LOGS).exists()


def test_every_line_of_every_step_and_what_nightmill_tells(telling: Bench) -> None:
    order = telling.order(
        shell("one", "printf 'first\\n[ ERROR ] \\033[31mred\\033[0m\\r\\n\\n10%%\\r20%%\\rhalf'"),
        shell("two", "echo 'WARNING: \\xff'; sleep 0.1; echo last >&2; exit 3"),
    )
    report = telling.run_one(order)
    assert report.fate is Fate.STEP_FAILED
    found = written(telling.spool)
    assert {LogLine.model_validate(each).job for each in found} == {"night1/science/exposure=12,detector=3"}
    assert len({each["id"] for each in found}) == len(found)
    told = [(each["step"], each["level"], each["message"]) for each in found]
    assert told[0] == ("", "INFO", "attempt a01 begins")
    assert told[2:7] == [
        ("one", "INFO", "first"),
        ("one", "ERROR", "[ ERROR ] red"),
        ("one", "INFO", "10%"),
        ("one", "INFO", "20%"),
        ("one", "INFO", "half"),
    ]
    assert told[1][2].startswith("== one: sh -c ")
    two = [each for each in told if each[0] == "two"]
    assert [each[1] for each in two[1:3]] == ["WARNING", "INFO"]
    assert two[2][2] == "last"
    assert two[3][1:] == ("ERROR", two[3][2])
    assert two[3][2].startswith("step two exited with code 3 after ")
    assert told[-1][:2] == ("two", "ERROR")
    assert told[-1][2].startswith("attempt failed: step_failed: step 'two' exited with code 3: last")


def test_lines_come_while_the_step_runs(telling: Bench) -> None:
    script = f"echo early; until grep -qs early {telling.spool}/{LOGS}/*.jsonl; do sleep 0.05; done; echo seen"
    report = telling.run_one(telling.order(shell("s", script, wall_seconds=30.0)))
    assert report.fate is Fate.PUBLISHED
    assert messages(telling.spool, step="s")[1:3] == ["early", "seen"]


def test_long_lines_are_several_and_a_line_of_many_looks_is_one(tmp_path: Path) -> None:
    spool = LineSpool(tmp_path, "w", "host", 1 << 30, utc_now)
    lines, log = AttemptLines(spool, ATTEMPT), os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    for part in (b"be", b"gin", b" end\nx", b"y"):
        os.write(log, part)
        lines.read(log, "s")
    lines.read(log, "s", last=True)
    os.write(log, b"\n" + b"z" * 40_000 + b"\n")
    lines.read(log, "s", last=True)
    os.ftruncate(log, 0)
    os.write(log, b"anew\n")
    lines.read(log, "s")
    spool.close()
    os.close(log)
    assert [len(each) if len(each) > 10 else each for each in messages(tmp_path)][:2] == ["begin end", "xy"]
    assert [len(each) for each in messages(tmp_path)[2:]] == [16384, 16384, 7232]


def test_what_is_left_out_of_a_huge_log_is_a_line(telling: Bench) -> None:
    telling.logs = NodeLogs(lines=True, max_bytes=1 << 20)
    code = "import sys\nfor n in range(60): sys.stdout.write('x' * 99_999 + '\\n')"
    telling.run_one(telling.order(python("chat", code)))
    (left_out,) = [each for each in messages(telling.spool, level="WARNING") if "left out" in each]
    assert left_out.endswith(" bytes of chat are left out here")


def test_a_spool_that_is_full_drops_the_oldest_and_says_how_many(tmp_path: Path) -> None:
    (tmp_path / "w.jsonl").touch()  # the journal of the writer
    spool = LineSpool(tmp_path, "w", "host", 1 << 20, utc_now)
    lines = AttemptLines(spool, ATTEMPT)
    log = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    for begin in range(0, 20_000, 100):
        os.write(log, b"".join(b"%06d\n" % n for n in range(begin, begin + 100)))
        lines.read(log, "s")
    spool.close()
    os.close(log)
    assert sum(path.stat().st_size for path in spooled(tmp_path)) < 1.3 * (1 << 20)
    found = messages(tmp_path)
    there = [int(each) for each in found if each.isdigit()]
    assert there == list(range(there[0], 20_000))
    told = [each for each in found if "were dropped" in each]
    ever = int(told[-1].partition("(")[2].split()[0])
    assert ever - 50 < there[0] <= ever  # lines that told of others were dropped as well


def test_no_room_in_the_spool_harms_no_job_and_is_told_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(tmp_path)
    bench.logs = NodeLogs(lines=True)
    with small_disk(bench.spool, size="66m"):
        taken = bench.spool / "taken"
        taken.write_bytes(bytes(3 << 20))  # less is left than is left to journals
        report = bench.run_one(bench.order(shell("s", "echo unheard; exit 1")))
        assert report.fate is Fate.STEP_FAILED
        assert "exited with code 1: unheard" in report.evidence
        assert "log lines are lost" in caplog.text
        spool = LineSpool(bench.spool, "w", "host", 1 << 30, utc_now)
        for text in ("one", "two"):
            spool.add(text)
            spool.flush()
        taken.unlink()
        spool.add('{"message": "three"}')
        spool.close()
        assert messages(bench.spool) == ["2 log lines were dropped: the spool had no more room for them", "three"]
        fill(bench.spool)


def test_who_writes_is_known_by_its_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "FILE_BYTES", 10)
    spool = LineSpool(tmp_path, "w-1", "host", 1 << 30, utc_now)
    (tmp_path / "w-1.jsonl").touch()
    for _ in range(3):
        spool.add('{"message": "x"}')
        spool.flush()
    first, second, third = spooled(tmp_path)
    assert over(spooled(tmp_path), tmp_path) == {first, second}
    third.unlink()
    spool.add('{"message": "y"}')
    spool.close()
    assert messages(tmp_path) == ["x", "x", "y"]
    (tmp_path / "w-1.jsonl").unlink()
    assert over(spooled(tmp_path), tmp_path) == set(spooled(tmp_path))
