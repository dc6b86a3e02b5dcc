"""What a step plants in its scratch: nightmill is led to nothing outside of it, and the step is told of by its name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightmill.execution.scratch import Scratch
from nightmill.model.fate import Fate
from nightmill.model.order import OrderInput
from tests.execution.failing import FIRST, SECOND, must_fail
from tests.support.orders import Bench, output, python, shell
from tests.support.users import ordinary_user


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """Give a folder that is nobody's business, and see afterwards that nothing in it has changed."""
    folder = tmp_path / "outside"
    (folder / "below").mkdir(parents=True)
    (folder / "file").write_text("precious")
    (folder / "below" / "file").write_text("precious")
    (folder / "frame.txt").write_text("precious")
    (folder / "first.txt").write_text("precious")
    before = _listing(folder)
    yield folder
    assert _listing(folder) == before


def _listing(folder: Path) -> list[tuple[str, int, int, bytes]]:
    return [
        (str(path), path.lstat().st_mode, path.lstat().st_nlink, path.read_bytes() if path.is_file() else b"")
        for path in sorted((folder, *folder.rglob("*")))
    ]


ATTACKS = {
    "log, link": ("rm ../log; ln -s {outside}/file ../log", "replaced ../log"),
    "log, hard link": ("rm ../log; ln {outside}/file ../log", "replaced ../log"),
    "log, pipe": ("rm ../log; mkfifo ../log", "replaced ../log"),
    "log, folder": ("rm ../log; mkdir ../log", "replaced ../log"),
    "log, gone": ("rm ../log", "replaced ../log"),
    "outputs, link": ("rmdir ../outputs; ln -s {outside} ../outputs", "replaced ../outputs"),
    "outputs, gone": ("rmdir ../outputs", "replaced ../outputs"),
    "outputs, another": ("mv ../outputs ../o; cp -r {outside} ../outputs", "replaced ../outputs"),
    "left, link": ("rmdir ../left; ln -s {outside} ../left; : > junk", "replaced ../left"),
    "inputs, link": ("mv ../inputs ../i; ln -s {outside} ../inputs", "replaced ../inputs"),
    "tmp, link": ("rmdir ../tmp; ln -s {outside} ../tmp", "replaced ../tmp"),
    "tmp, a link to nowhere": ("rmdir ../tmp; ln -s nowhere ../tmp", "replaced ../tmp"),
    "work, link": ("cd ..; rm -r work; ln -s {outside} work", "replaced its working folder"),
    "scratch, link": ("cd ..; mv $PWD $PWD.moved; ln -s {outside} $PWD", "replaced its scratch"),
    "scratch, gone": ("cd ..; rm -r $PWD", "replaced its scratch"),
    "scratch, a file": ("cd ..; mv $PWD $PWD.moved; echo > $PWD", "replaced its scratch"),
    "an input, link": ("cd ../inputs; ln -sf {outside}/file frame.txt", "frame.txt is a symbolic link now"),
}  # fmt: skip


@pytest.mark.req("X37")
@pytest.mark.parametrize("attack", ATTACKS)
def test_what_a_step_puts_in_place_of_its_scratch_leads_nowhere(bench: Bench, outside: Path, attack: str) -> None:
    script, told = ATTACKS[attack]
    script = "echo one; echo 1 > first.txt; " + script.format(outside=outside)
    frame = bench.put("frame.txt", b"input", type="text")
    order = bench.order(shell("one", script, FIRST), shell("two", "echo 2 > second.txt", SECOND), inputs=(frame,))
    report = bench.run_one(order)
    assert (report.fate, report.failed_step, len(report.steps)) == (Fate.BAD_OUTPUT, "one", 1)
    assert told in report.evidence
    assert report.evidence.endswith(
        "; a step may change what is in its working folder and its TMPDIR, and nothing else"
    )
    assert bench.stored() == [order.log_name]
    log = (bench.root / "stores/backbone" / order.log_path).read_text()
    _heading, *said, failed = log.splitlines()
    assert said == ["one"], "what was published is what the step wrote, whatever stands under the name"
    assert failed == f"== failed: {report.evidence}"
    moved = [path for path in bench.scratch.iterdir() if path.name.endswith(".moved")]
    assert [list(path.iterdir()) for path in moved] in ([], [[]])
    assert [path for path in bench.leftovers() if not path.endswith(".moved")] == []


def test_nobody_is_ended_in_a_place_that_a_step_puts_in_place_of_its_scratch(bench: Bench, outside: Path) -> None:
    other = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"], cwd=outside)
    try:
        script = f"cd ..; mv $PWD $PWD.moved; ln -s {outside} $PWD"
        assert bench.run_one(bench.order(shell("s", script))).fate is Fate.BAD_OUTPUT
        order = bench.order(shell("s", ":"), number=2)
        scratch = Scratch(bench.scratch, order)
        scratch.end()
        scratch.path.symlink_to(outside)
        Scratch.discard(bench.scratch, order)
        assert not scratch.path.is_symlink()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.req("X37")
def test_links_that_a_step_leaves_are_removed_and_not_what_they_lead_to(bench: Bench, outside: Path) -> None:
    script = (
        f"echo 1 > first.txt; ln -s {outside} one; ln -s {outside}/file two; ln -s {outside} ../tmp/three;"
        f" ln -s {outside} ../four; ln -s {outside}/file ../outputs/first.txt; ln -s {outside} ../left/two"
    )
    report = bench.run_one(bench.order(shell("s", script, FIRST), shell("two", ": > junk")))
    assert (report.fate, report.evidence) == (Fate.PUBLISHED, "")
    assert (bench.root / "stores/backbone/products/first.txt").read_text() == "1\n"
    assert bench.leftovers() == []


def test_a_folder_that_a_step_mounted_is_not_emptied(bench: Bench, outside: Path) -> None:
    mount = f"mkdir -p {{place}}; mount --bind {outside} {{place}} || exit 9"
    order = bench.order(shell("s", "; ".join(mount.format(place=place) for place in ("a/b", "../tmp/c")) + "; : > d"))
    report = bench.run_one(order)
    try:
        if report.steps[0].exit_code == 9:
            pytest.skip("this machine lets nobody mount a file system")
        assert report.fate is Fate.PUBLISHED
        assert not list(bench.scratch.rglob("d")), "the rest is removed"
    finally:
        for line in Path("/proc/self/mounts").read_text().splitlines():
            if (place := line.split()[1]).startswith(str(bench.scratch)):
                subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import socket; socket.socket(socket.AF_UNIX).bind('first.txt')", "not a regular file"),
        ("import os; os.mknod('first.txt', 0o20666, os.makedev(1, 5))", "not a regular file"),
        ("import os; os.link(OUTSIDE, 'first.txt')", "a hard link to a file that has another name too"),
        ("import os; os.symlink(OUTSIDE, 'first.txt')", "a symbolic link"),
        ("import os; os.symlink('../inputs', 'first.txt')", "a symbolic link"),
    ],
    ids=["socket", "device", "hard link", "symbolic link", "link to a folder"],
)
@pytest.mark.parametrize("produces", ["", "*.txt"])
def test_an_output_that_is_not_a_file_of_its_own(
    bench: Bench, tmp_path: Path, code: str, what: str, produces: str
) -> None:
    other = tmp_path / "other"
    other.write_text("precious")
    step = python("s", code.replace("OUTSIDE", repr(str(other))), FIRST.model_copy(update={"produces": produces}))
    must_fail(bench, bench.order(step), Fate.BAD_OUTPUT, f"step 's' made a bad first (text): first.txt is {what}")
    assert (other.read_text(), other.stat().st_nlink) == ("precious", 1)


@pytest.mark.parametrize(
    "script",
    [
        "rm ../outputs/first.txt; mkfifo ../outputs/first.txt",
        "rm ../outputs/first.txt; ln -s /dev/zero ../outputs/first.txt",
        "rm ../outputs/first.txt; ln -s {outside}/first.txt ../outputs/first.txt",
        "ln ../outputs/first.txt x; echo 2 > x",
    ],
)
def test_an_output_that_is_replaced_when_the_last_step_has_ended(bench: Bench, outside: Path, script: str) -> None:
    """By a process that nobody knows of, between the last look at it and its upload."""
    order = bench.order(shell("s", "echo 1 > first.txt", FIRST))

    class Late:
        def __getattr__(self, name: str) -> object:
            return getattr(bench.stagers["backbone"], name)

        def upload(self, source: Path, path: str, *, attempt: str) -> None:
            bench.stagers["backbone"].upload(source, path, attempt=attempt)

    seal = Scratch.set_aside

    def late(self: Scratch, step: str) -> list[str]:
        names = seal(self, step)
        subprocess.run(["sh", "-c", script.format(outside=outside)], cwd=self.work, check=True)
        return names

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scratch, "set_aside", late)
        must_fail(bench, order, Fate.BAD_OUTPUT, "first (text) first.txt was changed after it passed the gate: ")


def test_names_that_are_no_text_or_would_write_on_the_terminal(bench: Bench) -> None:
    code = r"""
for name in (b'a\nstep 2', b'b\x1b[2Jc', b'd\xff', b'e\tf'):
    open(name, 'w').close()
"""
    report = must_fail(bench, bench.order(python("s", code, FIRST)), Fate.MISSING_OUTPUT, "did not make first (text)")
    assert "(its folder holds a\ufffdstep 2, bc, d\ufffd, e\ufffdf)" in report.evidence
    made = output("all", "1.txt", "2.txt", "3.txt", produces="*.t")
    code = r"""
for name in (b'a\n.t', b'b\x1b[2Jc.t', b'd\xff.t'):
    open(name, 'w').write('1')
"""
    report = bench.run_one(bench.order(python("s", code, made), number=2))
    assert (report.fate, report.evidence) == (Fate.PUBLISHED, "")
    assert [file.produced_name for file in report.published if file.step] == ["a\ufffd.t", "bc.t", "d\ufffd.t"]
    assert bench.leftovers() == []


# ---------------------------------------------------------------------- what no step may change any more

CHANGES = {
    "written to": ("chmod u+w FILE; echo other > FILE", "has 6 bytes now, and had 5"),
    "written to, of the same size": ("cp FILE x; printf INPUT > FILE; touch -r x FILE", "its bytes have changed"),
    "added to": ("printf 2 >> FILE", "has 6 bytes now, and had 5"),
    "gone": ("rm -f FILE", "it is not there any more"),
    "replaced": ("printf INPUT > x; mv -f x FILE", "its bytes have changed"),
    "a link": ("mv FILE x; ln -s ../work/x FILE", "is a symbolic link now"),
    "a pipe": ("rm -f FILE; mkfifo FILE", "is not a regular file now"),
    "a folder": ("rm -f FILE; mkdir FILE", "is not a regular file now"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("which", ["../inputs/frame.txt", "../outputs/first.txt"])
def test_a_step_that_changes_what_it_may_only_read_fails_by_its_name(bench: Bench, change: str, which: str) -> None:
    script, how = CHANGES[change]
    frame = bench.put("frame.txt", b"input", type="text")
    order = bench.order(
        shell("one", "cp ../inputs/frame.txt first.txt", FIRST.model_copy(update={"store": ""})),
        shell("two", script.replace("FILE", which)),
        shell("three", "cp ../inputs/* ../outputs/* . && echo 2 > second.txt", SECOND),
        inputs=(frame,),
    )
    what = {
        "../inputs/frame.txt": "step 'two' changed input frame (text) frame.txt: ",
        "../outputs/first.txt": "step 'two' changed first (text) first.txt of step 'one': ",
    }
    report = must_fail(bench, order, Fate.BAD_OUTPUT, what[which])
    assert how in report.evidence
    assert report.failed_step == "two"


def test_an_input_that_is_staged_by_another_name_is_watched_there(bench: Bench) -> None:
    frame = bench.put("frame.txt", b"input", type="text").model_copy(update={"staged_as": "e1.txt"})
    order = bench.order(
        shell("one", "test ! -e ../inputs/frame.txt && cp ../inputs/e1.txt first.txt", FIRST, inputs=("frame.txt",)),
        shell("two", "rm -f ../inputs/e1.txt; echo input > ../inputs/e1.txt"),
        inputs=(frame,),
    )
    must_fail(bench, order, Fate.BAD_OUTPUT, "step 'two' changed input frame (text) frame.txt: ")


@pytest.mark.parametrize("name", ["../e1.txt", ".e1", "a/b", "a..b", "-x", "e1\n"])
def test_an_order_cannot_stage_a_file_elsewhere(bench: Bench, name: str) -> None:
    frame = bench.put("frame.txt", b"input", type="text")
    with pytest.raises(ValueError, match="is not fit for a file name"):
        OrderInput.model_validate({**frame.model_dump(), "staged_as": name})


@pytest.mark.parametrize(
    "touch", ["touch FILE", "chmod u+w FILE", "ln -f FILE x", "cp FILE x; mv -f x FILE", "mv FILE x; mv x FILE"]
)
def test_a_step_that_leaves_the_bytes_as_they_are_changes_nothing(bench: Bench, touch: str) -> None:
    frame = bench.put("frame.txt", b"input", type="text")
    script = "; ".join(touch.replace("FILE", file) for file in ("../inputs/frame.txt", "../outputs/first.txt"))
    order = bench.order(shell("one", "echo 1 > first.txt", FIRST), shell("two", script), inputs=(frame,))
    assert bench.run_one(order).evidence == ""


# ------------------------------------------------------------------------------------------ nothing is found

HIDING = ["junk", "../junk", "../outputs/junk", "../inputs/junk", "../tmp/junk", "../left/junk", "../.junk"]


@pytest.mark.req("B44")
def test_what_a_step_leaves_anywhere_in_its_scratch_is_found_by_no_later_step(bench: Bench) -> None:
    hide = "; ".join(f"echo secret > {place}" for place in HIDING)
    look = "cd ..; find . -name left -prune -o -type f -print | sort"
    report = bench.run_one(bench.order(shell("one", hide), shell("two", look)), keep_scratch=True)
    assert (report.fate, report.evidence) == (Fate.PUBLISHED, "")
    (scratch,) = bench.scratch.iterdir()
    found = (scratch / "log").read_text().partition("== two")[2].splitlines()[1:]
    assert found == ["./index.json", "./log", "./order.json"]


# -------------------------------------------------------------------------------- what is closed to its owner


PLACES = ["..", "../outputs", "../inputs", "../tmp", "../left", ".", "../outputs ../left ../tmp .."]


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("mode", ["000", "500"])
def test_folders_of_the_scratch_that_a_step_closed_are_opened_again(places: str, mode: str) -> None:
    """A user whom permissions bind is not told of a broken disk, and the next step finds its inputs."""
    with ordinary_user() as folder:
        bench = Bench(folder)
        frame = bench.put("frame.txt", b"input", type="text")
        close = shell(
            "one", f"echo 1 > first.txt; : > junk; for n in {places}; do chmod {mode} $n || exit 9; done", FIRST
        )
        use = shell("two", "cat ../inputs/frame.txt ../outputs/first.txt > second.txt", SECOND)
        report = bench.run_one(bench.order(close, use, inputs=(frame,)))
        assert (report.fate, report.evidence) == (Fate.PUBLISHED, "")
        assert bench.leftovers() == []


def test_a_folder_of_the_scratch_that_stays_closed_is_the_steps_fault(bench: Bench) -> None:
    """Its own, and not the disk's: the same order would end the same."""
    script = "echo 1 > first.txt; chattr +i ../outputs || exit 9"
    order = bench.order(shell("s", script, FIRST))
    try:
        report = bench.run_one(order)
        if report.steps[0].exit_code == 9:
            pytest.skip("this file system has no immutable folders")
        told = "step 's' left its scratch so that it cannot be used: first.txt: Operation not permitted; a step may"
        assert report.fate is Fate.BAD_OUTPUT
        assert report.evidence.startswith(told)
    finally:
        subprocess.run(["chattr", "-R", "-i", str(bench.scratch)], check=False, capture_output=True)
