"""Junk: what no output declares and what was refused, in one tar with an inventory, whatever a step leaves."""

from __future__ import annotations

import os
import tarfile
from hashlib import sha256
from typing import Any

import pytest

from nightmill.execution import junk
from nightmill.execution.attachments import read_attachment
from nightmill.model.fate import Fate
from nightmill.model.file_type import Checks
from nightmill.model.journal import MadeFile
from nightmill.model.order import JobOrder
from nightmill.model.report import JobReport
from tests.support.mounts import small_disk
from tests.support.orders import Bench, output, shell

CATALOG = output("catalog", "cat.txt")


def keeping(bench: Bench, *steps: Any, **changes: Any) -> JobOrder:
    """Make an order that keeps junk."""
    return bench.order(*steps).model_copy(update={"junk": "tar", **changes})


def junk_in(report: JobReport) -> MadeFile | None:
    return next((file for file in report.published if file.type == "junk"), None)


def inventory(bench: Bench, report: JobReport) -> dict[str, dict[str, Any]]:
    """Return the rows of a report's junk by their steps and paths."""
    file = junk_in(report)
    assert file is not None
    columns, rows = read_attachment(bench.spool, file.attachments[0])
    told = [dict(zip(columns, row, strict=True)) for row in rows]
    return {f"{each['step']}/{each['path']}": each for each in told}


def members(bench: Bench, report: JobReport) -> dict[str, bytes]:
    file = junk_in(report)
    assert file is not None
    with tarfile.open(bench.root / "stores" / file.store / file.path) as tar:
        return {each.name: tar.extractfile(each).read() for each in tar}  # type: ignore[union-attr]


@pytest.mark.req("B43", "REQ-0015")
def test_what_nobody_declared_is_kept_with_an_inventory(bench: Bench) -> None:
    one = shell(
        "one", "echo 1 > cat.txt; echo t > trace; mkdir -p a/b; echo deep > a/b/plot; ln -s /etc/passwd link", CATALOG
    )
    two = shell("two", "echo 2 > trace; mkfifo pipe")
    order = keeping(bench, one, two)
    report = bench.run_one(order)
    assert (report.fate, report.evidence) == (Fate.PUBLISHED, "")
    assert sorted(bench.stored()) == sorted(["cat.txt", order.log_name, order.junk_name])
    assert order.junk_name == order.log_name.replace(".log", ".junk.tar")
    assert members(bench, report) == {"one/a/b/plot": b"deep\n", "one/trace": b"t\n", "two/trace": b"2\n"}
    rows = inventory(bench, report)
    assert {name: (row["kind"], row["why"], row["kept"]) for name, row in rows.items()} == {
        "one/a/b/plot": ("file", "undeclared", True),
        "one/link": ("link to /etc/passwd", "undeclared", False),
        "one/trace": ("file", "undeclared", True),
        "two/pipe": ("pipe, socket or device", "undeclared", False),
        "two/trace": ("file", "undeclared", True),
    }
    assert (rows["one/trace"]["size_bytes"], rows["one/trace"]["sha256"]) == (2, sha256(b"t\n").hexdigest())
    assert bench.leftovers() == []


@pytest.mark.req("REQ-0015")
@pytest.mark.parametrize(
    ("script", "fate", "why"),
    [
        ("echo 1 > cat.txt", Fate.BAD_OUTPUT, {"s/cat.txt": "refused", "s/other": "undeclared"}),
        ("echo 1 > Cat.txt", Fate.MISSING_OUTPUT, {"s/Cat.txt": "undeclared", "s/other": "undeclared"}),
        ("echo 1 > cat.txt; exit 3", Fate.STEP_FAILED, {"s/cat.txt": "unfinished", "s/other": "undeclared"}),
    ],
)
def test_what_was_refused_or_bears_a_wrong_name_is_kept(
    bench: Bench, script: str, fate: Fate, why: dict[str, str]
) -> None:
    order = keeping(bench, shell("s", f"echo 0 > other; {script}", CATALOG))
    wanted = order.file_types["text"].model_copy(update={"checks": Checks(min_bytes=100)})
    report = bench.run_one(order.model_copy(update={"file_types": {**order.file_types, CATALOG.type: wanted}}))
    assert report.fate is fate
    assert sorted(bench.stored()) == sorted([order.log_name, order.junk_name]), (
        "nothing refused is visible as a product"
    )
    assert {name: row["why"] for name, row in inventory(bench, report).items()} == why
    assert all(row["kept"] for row in inventory(bench, report).values())


@pytest.mark.req("B43")
def test_what_is_to_be_left_is_left(bench: Bench) -> None:
    report = bench.run_one(bench.order(shell("s", "echo 1 > cat.txt; echo t > trace", CATALOG)))
    assert (report.fate, junk_in(report)) == (Fate.PUBLISHED, None)


@pytest.mark.parametrize("more", ["", "; echo > $NIGHTMILL_SIDECAR"])
def test_without_junk_there_is_no_tar(bench: Bench, more: str) -> None:
    report = bench.run_one(keeping(bench, shell("s", f"echo 1 > cat.txt{more}", CATALOG)))
    assert (report.fate, junk_in(report)) == (Fate.PUBLISHED, None)


def test_what_a_step_leaves_leads_nowhere_and_ends(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(junk, "MOST_BYTES", 1 << 20)
    monkeypatch.setattr(junk, "DEEPEST", 8)
    script = """
        echo 1 > cat.txt
        d=.; for n in 1 2 3 4 5 6 7 8 9 10 11 12; do d=$d/d; mkdir $d; done; echo deep > $d/file
        mkdir shut; echo hidden > shut/file; chmod 0 shut
        echo secret > closed; chmod 0 closed
        truncate -s 1G sparse
        ln -s ../../../.. up; ln /etc/hostname hard 2>/dev/null
        printf x > "$(printf 'new\\nline\\033[31m')"
        printf y > "$(printf '\\377\\376')"
    """
    report = bench.run_one(keeping(bench, shell("s", script, CATALOG)))
    assert report.fate is Fate.PUBLISHED, report.evidence
    rows = inventory(bench, report)
    assert (rows["s/sparse"]["kept"], rows["s/sparse"]["size_bytes"]) == (False, 1 << 30)
    assert rows["s/" + "d/" * 8 + "d"]["kind"] == "folder"
    assert rows["s/shut/file"]["kept"]
    assert rows["s/closed"]["kept"] is (os.getuid() == 0)
    assert rows["s/up"]["kind"] == "link to ../../../.."
    assert all(name.isprintable() for name in rows), "names are fit to be shown"
    assert sum("\ufffd" in name for name in rows) == 2


def test_a_full_disk_costs_the_junk_and_not_the_attempt(bench: Bench) -> None:
    with small_disk(bench.scratch, size="4m"):
        script = "echo 1 > cat.txt; head -c 2500000 /dev/zero > trace"
        report = bench.run_one(keeping(bench, shell("s", script, CATALOG)))
    assert (report.fate, junk_in(report)) == (Fate.PUBLISHED, None)
    log = (bench.root / "stores/backbone" / report.order.log_path).read_text()
    assert "== what no output declares is not kept: [Errno 28] No space left on device" in log
