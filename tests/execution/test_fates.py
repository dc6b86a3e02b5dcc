"""Every way in which an attempt ends without its outputs: what is told, and that nothing else stays but the log."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest

from nightmill.errors import ServiceError, StoreError
from nightmill.execution.journal import JournalWriter, SpoolAway
from nightmill.execution.launch import watch as process_module
from nightmill.model.fate import Fate
from nightmill.model.journal import Checked, Done, MadeFile, Staged
from nightmill.model.pipeline import Resources
from nightmill.model.store import Store
from stagers.local import LocalStager
from tests.execution.failing import FIRST, SECOND, must_fail
from tests.support.mounts import fill, make_read_only, small_disk
from tests.support.orders import Bench, fits_bytes, output, python, shell

# ------------------------------------------------------------------------------------------------- inputs


def test_an_input_that_vanished_after_the_plan(bench: Bench) -> None:
    frame = bench.put("frame.fits", fits_bytes())
    order = bench.order(shell("s", "echo 1 > first.txt", FIRST), inputs=(frame,))
    (bench.root / "stores/backbone/raw/frame.fits").unlink()
    report = must_fail(
        bench, order, Fate.INPUT_MISSING, "input frame (image) frame.fits is gone: cannot read", log=False
    )
    assert "'raw/frame.fits' in store 'backbone'" in report.evidence
    assert report.steps == ()


def test_an_input_of_a_store_whose_disk_is_not_mounted(bench: Bench) -> None:
    frame = bench.put("frame.fits", fits_bytes())
    store = bench.root / "stores/backbone"
    store.rename(store.with_name("elsewhere"))
    report = bench.run_one(bench.order(shell("s", ":"), inputs=(frame,)))
    assert (report.fate, report.published) == (Fate.STORE_ERROR, ())
    assert f"frame.fits cannot be staged: the folder {store} of store 'backbone' does not exist" in report.evidence


def test_an_input_of_another_size(bench: Bench) -> None:
    frame = bench.put("frame.fits", fits_bytes())
    order = bench.order(shell("s", ":"), inputs=(frame,))
    with (bench.root / "stores/backbone/raw/frame.fits").open("ab") as file:
        file.truncate(2880)
    told = (
        f"frame.fits has 2880 bytes in store 'backbone', the catalogue says {frame.size_bytes}; bring back a good copy"
    )
    must_fail(bench, order, Fate.INPUT_CORRUPT, told, log=False)


@pytest.mark.parametrize("verify", ["size", "checksum"])
def test_an_input_of_another_checksum(bench: Bench, verify: str) -> None:
    bench.add_store("backbone", verify=verify)
    frame = bench.put("frame.fits", fits_bytes())
    order = bench.order(shell("s", ":"), inputs=(frame,))
    path = bench.root / "stores/backbone/raw/frame.fits"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    if verify == "checksum":
        report = must_fail(bench, order, Fate.INPUT_CORRUPT, "frame.fits has checksum ", log=False)
        assert f"the catalogue says {frame.sha256}" in report.evidence
    else:
        assert bench.run_one(order).fate is Fate.PUBLISHED


def test_a_store_that_is_not_open_here(bench: Bench) -> None:
    frame = bench.put("frame.fits", fits_bytes()).model_copy(update={"store": "tape"})
    bench.stores["tape"] = Store(name="tape", url="file:///nowhere")
    told = "input frame (image) frame.fits cannot be staged: store 'tape' of the order is not open here"
    must_fail(bench, bench.order(shell("s", ":"), inputs=(frame,)), Fate.STORE_ERROR, told, log=False)


# -------------------------------------------------------------------------------------------------- steps


def test_exit_code_with_the_last_lines_of_the_output(bench: Bench) -> None:
    script = "for n in 1 2 3 4 5 6 7; do echo line $n; done; echo; echo broken >&2; echo 1 > first.txt; exit 3"
    report = must_fail(
        bench, bench.order(shell("fit", script, FIRST)), Fate.STEP_FAILED, "step 'fit' exited with code 3: broken\n"
    )
    assert report.evidence.endswith("broken\nbefore that:\nline 4\nline 5\nline 6\nline 7")
    assert report.failed_step == "fit"
    assert report.steps[0].exit_code == 3


def test_the_output_of_an_earlier_step_is_no_evidence(bench: Bench) -> None:
    order = bench.order(shell("one", "echo from one"), shell("two", "exit 1"))
    report = must_fail(bench, order, Fate.STEP_FAILED, "step 'two' exited with code 1")
    assert "from one" not in report.evidence


@pytest.mark.parametrize("script", ["rm ../log", "rm ../log; mkfifo ../log"])
def test_the_output_of_a_step_is_evidence_whatever_it_does_to_the_log(bench: Bench, script: str) -> None:
    report = bench.run_one(bench.order(shell("s", f"echo no star; {script}; exit 3")))
    assert (report.fate, report.evidence) == (Fate.STEP_FAILED, "step 's' exited with code 3: no star")


def test_evidence_is_text_that_can_be_kept_whatever_a_step_prints(bench: Bench) -> None:
    order = bench.order(python("s", r"import os; os.write(2, b'\x1b[31mred\x1b[0m \x00\xff\r\n' * 1000); exit(1)"))
    report = must_fail(bench, order, Fate.STEP_FAILED, "step 's' exited with code 1: ")
    assert report.evidence.splitlines()[-1] == "red \ufffd\ufffd"
    assert report.evidence.startswith("step 's' exited with code 1: red \ufffd\ufffd\n")
    assert len(report.evidence) < 5000


@pytest.mark.parametrize(("number", "name"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGRTMIN + 3, "signal 37")])
def test_a_signal(bench: Bench, number: int, name: str) -> None:
    order = bench.order(shell("s", f"echo 1 > first.txt; kill -{int(number)} $$", FIRST))
    report = must_fail(bench, order, Fate.STEP_KILLED, f"step 's' was ended by {name}")
    assert report.steps[0].signal == number


def test_the_wall_limit(bench: Bench) -> None:
    order = bench.order(shell("s", "echo 1 > first.txt; echo waiting; sleep 100", FIRST, wall_seconds=0.4))
    report = must_fail(bench, order, Fate.WALL_LIMIT, "step 's' ran longer than its 0.4 s and was ended: waiting")
    assert report.steps[0].signal == signal.SIGTERM


def test_the_wall_limit_of_a_step_that_tidies_up_and_exits_0(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "GRACE_SECONDS", 2.0)
    script = "trap 'echo 1 > first.txt; exit 0' TERM; while :; do :; done"
    order = bench.order(shell("s", script, FIRST, wall_seconds=0.3))
    assert must_fail(bench, order, Fate.WALL_LIMIT, "ran longer than its 0.3 s").steps[0].exit_code == 0


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("no-such-program", "'no-such-program': No such file or directory; is the program installed on this host"),
        ("/etc/passwd", "'/etc/passwd': Permission denied"),
        ("a\0b", r"'a\x00b': embedded null byte"),
    ],
)
def test_a_program_that_cannot_be_started(bench: Bench, program: str, told: str) -> None:
    step = shell("s", "").model_copy(update={"argv": (program, "-x")})
    report = must_fail(bench, bench.order(step), Fate.STEP_NOT_STARTED, f"step 's' cannot be started: {told}")
    assert report.steps == ()
    assert report.failed_step == "s"


def test_more_arguments_than_a_program_can_be_given(bench: Bench) -> None:
    step = shell("s", "").model_copy(update={"argv": ("true", *["x" * 1000] * 4000)})
    told = "step 's' cannot be started: 'true': Argument list too long; its files are too many for one command line"
    must_fail(bench, bench.order(step), Fate.STEP_NOT_STARTED, told)


@pytest.mark.parametrize("script", ["mkdir ../log", "mkfifo ../log"])
def test_a_log_that_a_step_replaced_fails_its_job_and_no_other(bench: Bench, script: str) -> None:
    bad = bench.order(shell("s", f"echo 1 > first.txt; rm ../log; {script}", FIRST))
    good = bench.order(shell("s", "echo 1 > second.txt", SECOND), number=2)
    failed, published = bench.run(bad, good)
    assert (failed.fate, failed.failed_step) == (Fate.BAD_OUTPUT, "s")
    assert failed.evidence.startswith("step 's' removed or replaced ../log; ")
    assert published.fate is Fate.PUBLISHED
    assert sorted(bench.stored()) == sorted([bad.log_name, "second.txt", good.log_name])
    assert bench.leftovers() == []


# ----------------------------------------------------------------------------------------------- the store


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            b"other bytes",
            "store 'backbone' already holds 'products/second.txt'; it was not overwritten; see what it is",
        ),
        (
            b"1\n",
            "second.txt stands in store 'backbone' already, with the very bytes that were made now: this order was",
        ),
    ],
    ids=["other bytes", "the same bytes"],
)
def test_a_name_that_is_taken_in_the_store(bench: Bench, content: bytes, told: str) -> None:
    products = bench.root / "stores/backbone/products"
    products.mkdir()
    (products / "second.txt").write_bytes(content)
    order = bench.order(shell("s", "echo 1 | tee first.txt > second.txt", FIRST, SECOND))
    must_fail(bench, order, Fate.NAME_COLLISION, told)
    assert (products / "second.txt").read_bytes() == content


def test_a_name_that_is_taken_between_upload_and_reveal(bench: Bench) -> None:
    stolen = bench.root / "stores/backbone/products/second.txt"

    class Raced(LocalStager):
        def reveal(self, path: str, *, attempt: str) -> None:
            if path.endswith("second.txt"):
                stolen.write_bytes(b"other bytes")
            super().reveal(path, attempt=attempt)

    order = bench.order(shell("s", "echo 1 | tee first.txt > second.txt", FIRST, SECOND))
    stagers = bench.stagers | {"backbone": Raced(bench.stores["backbone"])}
    report = bench.run_one(order, stagers=stagers)
    assert report.fate is Fate.NAME_COLLISION
    assert [file.name for file in report.published] == [order.log_name]
    assert sorted(bench.stored()) == ["second.txt", order.log_name]
    assert stolen.read_bytes() == b"other bytes"
    assert bench.leftovers() == []


def test_the_same_attempt_run_again_leaves_the_first_runs_files_alone(bench: Bench) -> None:
    order = bench.order(shell("s", "date +%N > first.txt", FIRST))
    assert bench.run_one(order).fate is Fate.PUBLISHED
    before = (bench.root / "stores/backbone/products/first.txt").read_bytes()
    rmtree(bench.spool / "claims")  # as when its journal was recorded
    must_fail(bench, order, Fate.NAME_COLLISION, "already holds 'products/first.txt'", log=False)
    assert (bench.root / "stores/backbone/products/first.txt").read_bytes() == before
    assert sorted(bench.stored()) == ["first.txt", order.log_name]


def test_a_store_that_damages_what_it_is_given(bench: Bench) -> None:
    class Damaging(LocalStager):
        def upload(self, source: Path, path: str, *, attempt: str, durable: bool = True) -> None:
            damaged = bench.root / "damaged"
            damaged.write_bytes(source.read_bytes()[:-1] + b"\0")
            super().upload(damaged if path.endswith("first.txt") else source, path, attempt=attempt)

    order = bench.order(shell("s", "echo 1 > first.txt", FIRST))
    stagers = bench.stagers | {"backbone": Damaging(bench.stores["backbone"])}
    told = "first.txt did not arrive in store 'backbone' as it was sent; check the store"
    must_fail(bench, order, Fate.STORE_ERROR, told, stagers=stagers)


@pytest.mark.req("REQ-0039")
def test_a_required_output_must_be_made_and_must_be_stored(bench: Bench) -> None:
    class Losing(LocalStager):
        """Says nothing of it when an upload comes to nothing."""

        def upload(self, source: Path, path: str, *, attempt: str, durable: bool = True) -> None:
            if not path.endswith("first.txt"):
                super().upload(source, path, attempt=attempt, durable=durable)

    order = bench.order(shell("s", ":", FIRST))
    must_fail(bench, order, Fate.MISSING_OUTPUT, "did not make first (text) first.txt")
    order = bench.order(shell("s", "echo 1 > first.txt", FIRST), number=2)
    stagers = bench.stagers | {"backbone": Losing(bench.stores["backbone"])}
    must_fail(bench, order, Fate.STORE_ERROR, "first.txt", stagers=stagers)
    assert bench.run_one(bench.order(shell("s", "echo 1 > first.txt", FIRST), number=3)).fate is Fate.PUBLISHED


@contextmanager
def store_on(bench: Bench, size: str) -> Iterator[Path]:
    """Let the store for products be a small disk of its own; the log goes elsewhere."""
    with small_disk(bench.root / "disk", size=size) as disk:
        bench.stores["products"] = Store(name="products", url=disk.as_uri())
        bench.stagers["products"] = LocalStager(bench.stores["products"])
        yield disk


def test_a_full_store(bench: Bench) -> None:
    with store_on(bench, "64k") as disk:
        big = output("big", "big.txt", store="products")
        order = bench.order(shell("s", "echo 1 > first.txt; head -c 200000 /dev/zero > big.txt", FIRST, big))
        told = f"cannot write 'products/big.txt' in store 'products' ({disk}): no space left; make room, then rerun"
        must_fail(bench, order, Fate.NO_SPACE, told)
        assert [path for path in disk.rglob("*") if path.is_file()] == []


def test_a_full_store_of_the_log_too(bench: Bench) -> None:
    with small_disk(bench.root / "disk", size="64k") as disk:
        bench.stagers["backbone"] = LocalStager(Store(name="backbone", url=disk.as_uri()))
        fill(disk)
        order = bench.order(shell("s", "echo 1 > first.txt", FIRST))
        must_fail(bench, order, Fate.NO_SPACE, "no space left", log=False)


def test_a_read_only_store(bench: Bench) -> None:
    with store_on(bench, "1m") as disk:
        make_read_only(disk)
        order = bench.order(shell("s", "echo 1 > first.txt", FIRST.model_copy(update={"store": "products"})))
        must_fail(bench, order, Fate.STORE_ERROR, f"in store 'products' ({disk}): Read-only file system")


def test_a_store_that_is_gone(bench: Bench) -> None:
    shutil.rmtree(bench.root / "stores/backbone")
    order = bench.order(shell("s", "echo 1 > first.txt", FIRST))
    report = bench.run_one(order)
    assert (report.fate, report.published) == (Fate.STORE_ERROR, ())
    assert "the folder " in report.evidence
    assert "of store 'backbone' does not exist; is its disk mounted?" in report.evidence
    assert not (bench.root / "stores/backbone").exists()
    assert bench.leftovers() == []


# --------------------------------------------------------------------------------------- scratch and spool


@contextmanager
def small_scratch(bench: Bench, size: str) -> Iterator[Path]:
    with small_disk(bench.scratch, size=size) as disk:
        yield disk


def test_a_scratch_too_small_for_the_inputs(bench: Bench) -> None:
    """Nothing is copied: their sizes are known."""
    frame = bench.put("frame.txt", bytes(200_000), type="text")
    with small_scratch(bench, "64k") as disk:
        told = " bytes free, and the job's inputs have 200000; make room, or give the site a larger scratch, then rerun"
        report = must_fail(bench, bench.order(shell("s", ":"), inputs=(frame,)), Fate.NO_SPACE, told, log=False)
        assert report.evidence.startswith(f"the scratch {disk} has ")
        assert list(disk.iterdir()) == []


def test_a_scratch_with_less_room_than_the_stage_asks_for(bench: Bench) -> None:
    frame = bench.put("frame.txt", b"archive", type="text")
    with small_scratch(bench, "256k") as disk:
        order = bench.order(shell("s", "echo 1 > first.txt", FIRST), inputs=(frame,))
        report = bench.run_one(order.model_copy(update={"resources": Resources(scratch_bytes=300_000)}))
        told = (
            rf"the scratch {disk} has 2\d{{5}} bytes free, and the job asks for 300000; make room, or lower scratch_b"
        )
        assert report.fate is Fate.NO_SPACE
        assert re.match(told, report.evidence)
        assert not [entry for entry in bench.entries() if isinstance(entry, Staged)]
        order = bench.order(shell("s", "echo 1 > first.txt", FIRST), inputs=(frame,), number=2)
        report = bench.run_one(order.model_copy(update={"resources": Resources(scratch_bytes=100_000)}))
        assert report.fate is Fate.PUBLISHED


def test_a_scratch_that_a_step_fills(bench: Bench) -> None:
    with small_scratch(bench, "256k"):
        order = bench.order(shell("s", "head -c 1000000 /dev/zero > first.txt", FIRST))
        must_fail(bench, order, Fate.STEP_FAILED, "No space left on device")


def test_a_scratch_without_room_for_anything(bench: Bench) -> None:
    with small_scratch(bench, "64k,nr_inodes=4"):
        told = "No space left on device; make room, then rerun"
        must_fail(bench, bench.order(shell("s", ":")), Fate.NO_SPACE, told, log=False)


def test_a_scratch_that_cannot_be_made(bench: Bench) -> None:
    bench.scratch.write_text("no folder")
    report = bench.run_one(bench.order(shell("s", ":")))
    assert report.fate is Fate.STORE_ERROR
    assert report.evidence.startswith("the scratch cannot be used: ")
    assert report.evidence.endswith("Not a directory; mend the scratch disk, then rerun")


def test_a_job_that_cannot_tell_does_not_go_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    order = bench.order(shell("one", "echo 1 > first.txt", FIRST), shell("two", "echo 2 > second.txt", SECOND))
    sync = JournalWriter.sync

    def full(self: JournalWriter) -> None:
        monkeypatch.setattr(JournalWriter, "sync", sync)
        raise SpoolAway("the journal cannot be written: No space left on device")

    monkeypatch.setattr(JournalWriter, "sync", full)
    with pytest.raises(ServiceError, match="the journal cannot be written"):
        bench.run_one(order)
    assert bench.stored() == []


def test_a_store_that_goes_away_while_publishing_leaves_the_end_to_recovery(bench: Bench) -> None:
    class Away(LocalStager):
        def settle(self, paths: Any) -> None:
            raise StoreError("the store is away")

    order = bench.order(shell("s", "echo 1 > first.txt", FIRST))
    with pytest.raises(StoreError, match="the store is away"):
        bench.run_one(order, stagers=bench.stagers | {"backbone": Away(bench.stores["backbone"])})
    assert not [entry for entry in bench.entries() if isinstance(entry, Done)]


def test_made_files_are_told_before_anything_is_uploaded(bench: Bench) -> None:
    told: list[MadeFile] = []

    class Watching(LocalStager):
        def upload(self, source: Path, path: str, *, attempt: str, durable: bool = True) -> None:
            told.extend(file for entry in bench.entries() if isinstance(entry, Checked) for file in entry.files)
            super().upload(source, path, attempt=attempt)

    order = bench.order(shell("s", "echo 1 > first.txt", FIRST))
    bench.run_one(order, stagers=bench.stagers | {"backbone": Watching(bench.stores["backbone"])})
    assert [file.name for file in told[:1]] == ["first.txt"]
