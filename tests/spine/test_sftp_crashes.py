"""Killed after every answer of an SFTP server: nothing half visible, nothing left, and published or lost as one."""

from __future__ import annotations

import signal
from pathlib import Path

from nightmill.execution.journal import journals, read_journal
from nightmill.execution.recover import finish_dead
from nightmill.model.report import fold
from nightmill.model.states import AttemptState
from nightmill.model.store import Store
from stagers.sftp import SftpStager
from tests.support.forks import forked
from tests.support.orders import Bench, output, rights_of, shell
from tests.support.sshd import Sshd, killed_after


def bench_in(folder: Path, sshd: Sshd) -> Bench:
    """Make a bench whose backbone is reached over SFTP, with an order of one job."""
    bench = Bench(folder)
    frame = bench.put("frame.txt", b"pixels", type="text")
    bench.stores["backbone"] = Store(name="backbone", url=sshd.url(folder / "stores/backbone"))
    bench.stagers["backbone"] = SftpStager(bench.stores["backbone"])
    step = shell("copy", "cat ../inputs/frame.txt ../inputs/frame.txt > twice.txt", output("twice", "twice.txt"))
    step = step.model_copy(update={"inputs": ("frame.txt",)})
    (folder / "orders.jsonl").write_text(bench.order(step, inputs=(frame,)).model_dump_json() + "\n")
    return bench


def killed(folder: Path, sshd: Sshd, count: int) -> tuple[str, bool]:
    """Carry out an order, be killed, recover; return how the attempt ended, and whether nothing killed it."""
    bench = bench_in(folder, sshd)
    code = forked(killed_after, bench.root, count)
    assert code in (0, -signal.SIGKILL)
    for path in journals(bench.spool):
        journal = read_journal(path)
        finish_dead(journal, bench.stagers, rights_of(journal), scratch=bench.scratch)
    [report] = fold(bench.entries()).values()
    stored = {file.path for file in report.published} | {"raw/frame.txt"}
    root = bench.root / "stores/backbone"
    left = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert left == stored, f"killed after answer {count}"
    if report.state is AttemptState.PUBLISHED:
        twice = next(file for file in report.published if file.name == "twice.txt")
        assert (root / twice.path).read_bytes() == b"pixels" * 2
    return str(report.state), code == 0


def test_killed_after_every_answer(tmp_path: Path, sshd: Sshd) -> None:
    """After each from the last that loses the attempt on; before, after every eighth."""
    first = 1
    while killed(tmp_path / f"{first}", sshd, first)[0] == "lost":
        first += 8
    ends, whole = [], False
    for count in range(first - 7, first + 100):
        end, whole = killed(tmp_path / f"each{count}", sshd, count)
        ends.append(end)
        if whole:
            break
    assert whole
    assert ends == sorted(ends), "lost before its intent, and published from then on"
    assert ends.count("published") > 8
