"""Memory and processes of steps are held by control groups, where a site has some."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nightmill.errors import JobFailed
from nightmill.execution.confine import groups
from nightmill.execution.confine.confiner import Confiner
from nightmill.execution.confine.groups import Group, Lack, joined, made_in
from nightmill.execution.launch import plain
from nightmill.execution.launch.containers.rootfs import digest_of_folder
from nightmill.execution.launch.plain import Launch
from nightmill.execution.probing import try_confinement
from nightmill.execution.scratch import Scratch
from nightmill.model.confinement import NodeConfinement, Use
from nightmill.model.container import Containers
from nightmill.model.fate import Fate
from nightmill.model.journal import StepBegan, StepObserved
from nightmill.model.order import JobOrder, OrderStep, OrderText
from nightmill.model.pipeline import Resources
from tests.execution.test_confined_processes import DAEMON, spawners
from tests.execution.test_launch import await_death
from tests.support.cgroups import first_version, group_files, second_version
from tests.support.image import make_image, needs_bubblewrap
from tests.support.orders import Bench, python, shell
from tests.support.users import SPAWNER, ordinary_user

MB = 1_000_000
ASKED = 64 * MB
BY = ("memory cgroup", "pids cgroup")
TAKES = "x = bytearray(200_000_000)"
MANY = "a() { x=$(head -c 3000000 /dev/zero | tr '\\0' a); sleep 100; }; for i in $(seq 40); do a & done; wait; wait"
"""Processes, each of which is smaller than what starts steps."""


@pytest.fixture
def cgroup() -> Iterator[Path]:
    with first_version() as folder:
        yield folder


@pytest.fixture
def held(bench: Bench, cgroup: Path) -> Bench:
    """Give a bench whose steps are held by control groups."""
    bench.confinement = NodeConfinement(cgroup=cgroup, use=Use.DEMAND)
    return bench


def asking(bench: Bench, step: OrderStep, memory_bytes: int | None = ASKED, **changes: Any) -> JobOrder:
    order = bench.order(step, **changes)
    return order.model_copy(update={"resources": Resources(memory_bytes=memory_bytes)})


def log_of(bench: Bench, order: JobOrder) -> str:
    return (bench.root / "stores/backbone/logs" / order.log_name).read_text()


def script(code: str, **changes: Any) -> OrderStep:
    """Make a step that is a script of Python, as only those can be warm."""
    step = python("s", code, **changes)
    files = (OrderText(name="s.py", text=code),)
    return step.model_copy(update={"argv": ("{python}", "../files/s.py"), "files": files})


@pytest.mark.req("B49")
@pytest.mark.parametrize("warm", [(), ("json",)], ids=["cold", "warm"])
def test_a_step_that_takes_more_than_its_job_asks_for_is_ended_and_the_next_is_not(
    held: Bench, warm: tuple[str, ...]
) -> None:
    who = "import os; print('of', os.getppid())\n"
    orders = [
        asking(held, script(who, warm=warm)),
        asking(held, script(who + TAKES, warm=warm), number=2),
        asking(held, script(who + "x = bytearray(40_000_000)", warm=warm), number=3),
        asking(held, script(who + TAKES, warm=warm), None, number=4),
    ]
    first, second, third, fourth = held.run(*orders)
    assert [each.fate for each in (first, third, fourth)] == [Fate.PUBLISHED] * 3
    assert second.fate is Fate.OUT_OF_MEMORY
    assert second.evidence == (
        "step 's' was killed by the kernel, as it came to the 64 MB of memory that its job asks for; more can be had by"
        " memory_bytes of its stage"
    )
    logs = [log_of(held, order) for order in orders]
    assert len({line for log in logs for line in log.splitlines() if line.startswith("of ")}) == 1, "it is one process"
    assert not any("without the modules" in log for log in logs)
    told = [each.observed.confined for each in held.entries() if isinstance(each, StepObserved)]
    assert [each.by[-2:] for each in told] == [BY] * 4
    assert not any(each.lacking for each in told)


@pytest.mark.parametrize("warm", [(), ("json",)], ids=["cold", "warm"])
def test_the_step_goes_and_who_starts_it_stays_also_where_that_is_larger(held: Bench, warm: tuple[str, ...]) -> None:
    code = f"import os, subprocess, sys\nsys.exit(subprocess.call(['sh', '-c', {MANY!r}]) or 3)"
    order = asking(held, script(code, warm=warm, wall_seconds=4))
    report = held.run_one(order)
    assert report.fate is Fate.OUT_OF_MEMORY
    assert "as it came to the 64 MB" in (report.evidence or "")
    assert "the process that starts the steps" not in log_of(held, order)


def test_a_process_of_a_step_that_is_killed_is_told(held: Bench) -> None:
    eats = f"{sys.executable} -c '{TAKES}'"
    failed = held.run_one(asking(held, shell("s", f"{eats}; exit 3")))
    assert failed.fate is Fate.OUT_OF_MEMORY
    assert "exited with code 3 as a process of it was killed by the kernel, as it came to" in failed.evidence
    waits = held.run_one(asking(held, shell("s", f"{eats}; sleep 1000", wall_seconds=2), number=2))
    assert waits.fate is Fate.OUT_OF_MEMORY
    assert "ran too long and was ended, after a process of it was killed by the kernel" in waits.evidence
    well = held.run_one(asking(held, shell("s", f"{eats}; true"), number=3))
    assert well.fate is Fate.PUBLISHED, "it says itself that this does not matter"


def test_a_step_in_an_image_is_held_too(held: Bench, tmp_path: Path) -> None:
    needs_bubblewrap()
    make_image(tmp_path / "tiny")
    name = f"survey/tiny@{digest_of_folder(tmp_path / 'tiny')}"
    held.containers = Containers(runtime="bubblewrap", images={name: tmp_path / "tiny"})
    held.confinement = held.confinement.model_copy(update={"use": Use.TRY})  # a compiler is not needed for this
    takes = "x=0123456789abcdef; while :; do x=$x$x; done"
    report = held.run_one(asking(held, shell("s", takes, image=name)))
    assert report.fate is Fate.OUT_OF_MEMORY
    assert "came to the 64 MB of memory that its job asks for" in report.evidence
    well = held.run_one(asking(held, shell("s", "echo well", image=name), number=2))
    assert well.fate is Fate.PUBLISHED
    told = [each.observed.confined for each in held.entries() if isinstance(each, StepObserved)]
    assert [each.by[-2:] for each in told] == [BY] * 2


def test_an_image_whose_runtime_has_groups_of_its_own_is_told(bench: Bench, cgroup: Path) -> None:
    said = "memory of a step in an image is not limited: its runtime puts it into a control group of its own"
    output = os.open(os.devnull, os.O_WRONLY)
    launch = Launch(("true",), Path("/"), {}, output)
    for number, use in enumerate((Use.TRY, Use.DEMAND), 1):
        order = bench.order(shell("s", "true"), number=number)
        confiner = Confiner(NodeConfinement(cgroup=cgroup, use=use))
        rules = confiner.rules(order, order.steps[0], Scratch(bench.scratch, order))
        start = confiner.in_group(plain.start, order.steps[0], rules, is_parent=False)
        if use is Use.DEMAND:
            with pytest.raises(JobFailed, match=f"cannot confine steps as its site demands: {said}"):
                start(launch)
        else:
            process = start(launch)
            process.reap()
            assert process.confined.lacking == (said,)
        confiner.close()
    os.close(output)


@pytest.mark.req("B41")
@pytest.mark.parametrize("warm", [(), ("json",)], ids=["cold", "warm"])
def test_a_fork_bomb_goes_no_further_than_its_limit_for_root_too(held: Bench, warm: tuple[str, ...]) -> None:
    held.confinement = held.confinement.model_copy(update={"processes": 60})
    bomb = (
        "import os, time\nfor _ in range(1000):\n    try:\n        os.fork()\n    except OSError:\n"
        "        print('enough', flush=True); time.sleep(1000)\n"
    )
    order = asking(held, script(bomb, warm=warm, wall_seconds=2), None)
    report = held.run_one(order)
    assert report.fate is Fate.WALL_LIMIT
    assert 50 <= log_of(held, order).splitlines().count("enough") <= 61
    assert spawners() == []
    assert held.run_one(asking(held, shell("s", "echo a | cat | cat"), number=2)).fate is Fate.PUBLISHED


@pytest.mark.req("B41")
def test_what_a_step_left_ends_with_its_group_where_who_started_it_was_killed(held: Bench) -> None:
    code = DAEMON + "if not os.fork():\n    daemon()\nos.wait()\ntime.sleep(0.2)\nopen('here', 'w')\ntime.sleep(1000)"
    order = asking(held, python("s", "import os\n" + code))

    def kill_it(entry: object) -> None:
        if isinstance(entry, StepBegan):
            deadline = time.monotonic() + 60
            while not any(held.scratch.rglob("here")) and time.monotonic() < deadline:
                time.sleep(0.02)
            os.kill(spawners()[0].pid, signal.SIGKILL)

    report = held.run_one(order, listener=kill_it)
    assert report.fate is Fate.STEP_KILLED
    assert "the process that starts the steps of this worker was killed" in report.evidence
    daemon = next(int(line) for line in log_of(held, order).splitlines() if line.isdigit())
    await_death([daemon])


def test_what_steps_before_left_in_caches_is_not_for_the_next_to_take(cgroup: Path, tmp_path: Path) -> None:
    idle = subprocess.Popen(["sleep", "1000"])
    group = joined(made_in(cgroup, 100), idle.pid)
    memory = group.folders[0]
    try:
        group.begin(None)
        assert memory.joinpath("memory.limit_in_bytes").read_text().strip() == _unlimited(cgroup)
        argv = group.entering(["dd", "if=/dev/zero", f"of={tmp_path / 'file'}", "bs=1M", "count=60", "conv=fsync"])
        subprocess.run(argv, check=True, stderr=subprocess.DEVNULL)
        assert int(memory.joinpath("memory.usage_in_bytes").read_text()) > 50 * 2**20
        group.begin(20 * MB)
        assert int(memory.joinpath("memory.limit_in_bytes").read_text()) < 30 * MB
        group.begin(200 * MB)
        assert 200 * MB <= int(memory.joinpath("memory.limit_in_bytes").read_text()) < 210 * MB
        assert group.lack() == Lack(0, None)
        group.begin(None)
        assert memory.joinpath("memory.limit_in_bytes").read_text().strip() == _unlimited(cgroup)
        assert group.folders[1].joinpath("pids.max").read_text() == "102\n"
    finally:
        group.remove()
        assert idle.wait(60) == -signal.SIGKILL


def test_what_dead_workers_left_is_removed_and_what_others_have_is_not(cgroup: Path) -> None:
    dead, alive = made_in(cgroup, 100), made_in(cgroup, 100)
    left = subprocess.Popen(["sleep", "1000"])
    dead.add(left.pid)
    os.close(dead._lock)  # as the end of a process does
    third = made_in(cgroup, 100)
    try:
        assert left.wait(60) == -signal.SIGKILL
        assert not any(folder.exists() for folder in dead.folders)
        assert all(folder.exists() for folder in alive.folders)
    finally:
        alive.remove()
        third.remove()


def test_an_ordinary_user_has_them_where_a_group_is_theirs(cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twin = Path("/sys/fs/cgroup/pids") / cgroup.name
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")  # which any user may run
    with ordinary_user(reads=SPAWNER) as folder:
        own = Bench(folder, confinement=NodeConfinement(cgroup=cgroup))
        step = python("s", "x = 'a' * 200_000_000")
        told = try_confinement(own.confinement)
        assert f"memory of steps is not limited: control group {cgroup}: Permission denied; give it to the user" in told
        user = os.geteuid()
        os.seteuid(0)
        for each in (cgroup, twin):
            os.chown(each, user, -1)
        os.seteuid(user)
        report = own.run_one(asking(own, step))
        assert report.fate is Fate.OUT_OF_MEMORY
        assert report.steps[0].observed is not None
        assert report.steps[0].observed.confined.by[-2:] == BY


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no-such", "No such file or directory; make it, or have systemd delegate one"),
        (
            "",
            "it is not one of memory; name a folder under /sys/fs/cgroup",
        ),
    ],
    ids=["nothing", "a folder"],
)
def test_what_is_not_a_control_group_is_told(bench: Bench, tmp_path: Path, text: str, said: str) -> None:
    of = tmp_path / text
    bench.confinement = NodeConfinement(cgroup=of)
    report = bench.run_one(asking(bench, shell("s", "true")))
    assert report.fate is Fate.PUBLISHED
    assert report.steps[0].observed is not None
    [lack] = report.steps[0].observed.confined.lacking
    assert lack.startswith(f"memory of steps is not limited: control group {of}: {said}")
    bench.confinement = NodeConfinement(cgroup=of, use=Use.DEMAND)
    refused = bench.run_one(asking(bench, shell("s", "true"), number=2))
    assert refused.fate is Fate.STEP_NOT_STARTED
    assert f"as its site demands: memory of steps is not limited: control group {of}: {said}" in refused.evidence


def test_memory_alone_is_held_where_processes_cannot_be(cgroup: Path) -> None:
    twin = Path("/sys/fs/cgroup/pids") / cgroup.name
    twin.rmdir()
    try:
        told = try_confinement(NodeConfinement(cgroup=cgroup))
    finally:
        twin.mkdir()
    assert "memory cgroup; processes of root are not limited" in told
    assert f"control group {twin}: No such file or directory; make it" in told


# -------------------------------------------------------------------------- the second version


@pytest.fixture
def second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with the files of a control group of the second version, in which groups have theirs, too."""
    folder = tmp_path / "nightmill.slice"
    folder.mkdir()
    (folder / "cgroup.controllers").write_text("cpu memory pids\n")
    (folder / "cgroup.subtree_control").write_text("")

    def mkdtemp(prefix: str, dir: Path) -> str:
        made = dir / f"{prefix}1"
        made.mkdir()
        group_files(made)
        return str(made)

    monkeypatch.setattr(groups, "mkdtemp", mkdtemp)
    return folder


def test_what_is_written_to_the_second_version(second: Path) -> None:
    group = made_in(second, 500)
    assert (group.by, group.lacking) == (BY, ())
    [folder] = group.folders
    assert (second / "cgroup.subtree_control").read_text() == "+memory +pids"
    assert folder.joinpath("pids.max").read_text().split() == ["502"]
    group.add(77)
    assert folder.joinpath("cgroup.procs").read_text() == "77"
    group.begin(None)
    assert folder.joinpath("memory.max").read_text() == "max\n"
    group.begin(ASKED)
    assert folder.joinpath("memory.max").read_text() == f"{ASKED + 8_000_000}"
    assert folder.joinpath("memory.swap.max").read_text().startswith("0")
    folder.joinpath("memory.events").write_text("oom 0\noom_kill 1\noom_group_kill 0\n")
    assert group.lack() == Lack(1, None), "its host had no memory"
    folder.joinpath("memory.events").write_text("oom 3\noom_kill 2\noom_group_kill 0\n")
    assert group.lack() == Lack(2, ASKED)
    folder.joinpath("memory.current").write_text(f"{9_000_000 + ASKED}\n")
    folder.joinpath("memory.stat").write_text(f"inactive_file {ASKED}\nactive_file 1000000\n")
    group.begin(MB)
    assert folder.joinpath("memory.reclaim").read_text() == f"{ASKED}"
    assert folder.joinpath("memory.max").read_text().startswith(f"{9_000_000 + ASKED}"), "less would kill who is there"
    assert group.lack() == Lack(0, None)
    group.begin(None)
    assert folder.joinpath("memory.max").read_text().startswith("max")
    assert folder.joinpath("memory.swap.max").read_text().startswith("max")


def test_a_group_with_processes_of_its_own_cannot_be_divided(second: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = groups._write

    def write(path: Path, value: bytes) -> None:
        if path.name == "cgroup.subtree_control":
            raise OSError(16, os.strerror(16))
        original(path, value)

    monkeypatch.setattr(groups, "_write", write)
    group = made_in(second, 500)
    assert group.folders == ()
    assert group.lacking == (
        f"memory of steps is not limited: control group {second}: Device or resource busy; it has processes itself, so"
        " it cannot be divided: have them in a group in it, as by systemd's DelegateSubgroup=worker",
    )


def test_a_group_without_the_controller_of_memory_is_told() -> None:
    with second_version() as folder:
        if "memory" in (folder / "cgroup.controllers").read_text():
            pytest.skip("the second version has the controller of memory here")
        [said] = made_in(folder, 500).lacking
    assert "it has no controller memory; have memory and pids delegated to it, as by Delegate=memory pids" in said


def test_all_of_a_group_of_the_second_version_ends_at_once(tmp_path: Path) -> None:
    with second_version() as folder:
        group = Group((folder,))
        script = "trap '' TERM; setsid sleep 1000 & setsid sh -c 'cd /; exec env -i sleep 1000' & echo; wait"
        with subprocess.Popen(group.entering(["sh", "-c", script]), stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            there = [int(line) for line in (folder / "cgroup.procs").read_text().split()]
            assert len(there) == 3
            assert group.end()
            assert process.wait(60) == -signal.SIGKILL
        assert (folder / "cgroup.procs").read_text() == ""
        assert not Group().end()


def _unlimited(of: Path) -> str:
    return (of / "memory.limit_in_bytes").read_text().strip()
