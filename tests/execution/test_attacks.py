"""Ways out that no path leads to: memory that outlives a step, limits of other processes, filters of its own."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nightmill.execution.launch.containers.rootfs import digest_of_folder
from nightmill.model.confinement import NodeConfinement, Use
from nightmill.model.container import Containers
from nightmill.model.fate import Fate
from nightmill.model.order import OrderStep, OrderText
from tests.execution.failing import must_fail
from tests.support.audited import audited, observed
from tests.support.confined import TRIES, attempt
from tests.support.image import make_image, needs_bubblewrap
from tests.support.orders import Bench, output, python, shell

KEY = 0x6E6D0000 + os.getpid() % 0xFFFF
SHARED = f"""
import ctypes, errno, os
c = ctypes.CDLL(None, use_errno=True)
c.shmat.restype, c.shmat.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
def at(flags):
    number = c.shmget({KEY}, 4096, 0o600 | flags)
    if number < 0:
        raise SystemExit(print(errno.errorcode[ctypes.get_errno()]))
    return ctypes.c_char_p(c.shmat(number, None, 0))
"""
LEAVES = f"{SHARED}ctypes.memmove(at(0o1000), b'left', 5)\nprint('left', flush=True)\n"
FINDS = f"{SHARED}print(at(0).value.decode())\n"


def python_step(name: str, code: str, **changes: Any) -> OrderStep:
    """Make a step of Python that can be warm, too."""
    text = OrderText(name=f"{name}.py", text=code)
    return OrderStep(name=name, argv=("{python}", f"../files/{name}.py"), files=(text,), **changes)


def log_of(bench: Bench) -> list[str]:
    [log] = (bench.root / "stores/backbone/logs").iterdir()
    return [line for line in log.read_text().splitlines() if not line.startswith("==")]


@pytest.mark.req("B41", "B44")
@pytest.mark.parametrize("warm", [(), ("json",)], ids=["cold", "warm"])
def test_memory_that_a_step_shares_ends_with_it(bench: Bench, warm: tuple[str, ...]) -> None:
    bench.confinement = NodeConfinement()
    steps = [python_step("one", LEAVES, warm=warm), python_step("two", FINDS, warm=warm)]
    assert bench.run_one(bench.order(*steps)).fate is Fate.PUBLISHED
    assert log_of(bench) == ["left", "ENOENT"]
    assert f" {KEY} " not in Path("/proc/sysvipc/shm").read_text()


@pytest.mark.req("B44")
def test_shared_memory_is_a_steps_own(bench: Bench) -> None:
    bench.confinement = NodeConfinement()
    theirs = Path(f"/dev/shm/nightmill-{os.getpid()}")
    theirs.write_text("of another")
    try:
        script = f"ls /dev/shm; echo x > {theirs}-x && cat {theirs}-x"
        steps = [shell(name, script, shared_memory=True) for name in "ab"]
        assert bench.run_one(bench.order(*steps)).fate is Fate.PUBLISHED
    finally:
        theirs.unlink()
    assert log_of(bench) == ["x", "x"]
    assert not Path(f"{theirs}-x").exists()


OTHERS = {
    "have the kernel end it": "resource.prlimit(WORKER, resource.RLIMIT_CPU, (10**9, 10**9))",
    "let it write no file": "resource.prlimit(os.getppid(), resource.RLIMIT_FSIZE, (10**15, 10**15))",
    "slow it down": "os.setpriority(os.PRIO_PROCESS, WORKER, 19)",
    "slow down all of its user": "os.setpriority(os.PRIO_USER, 0, os.getpriority(os.PRIO_PROCESS, 0))",
    "let it run when nobody does": "os.sched_setscheduler(WORKER, os.SCHED_OTHER, os.sched_param(0))",
}


@pytest.mark.req("B41")
@pytest.mark.parametrize("warm", [(), ("json",)], ids=["cold", "warm"])
def test_the_limits_and_priorities_of_others_are_out_of_reach(bench: Bench, warm: tuple[str, ...]) -> None:
    before = resource.prlimit(os.getpid(), resource.RLIMIT_CPU), os.getpriority(os.PRIO_PROCESS, 0)
    code = f"import resource\nWORKER = {os.getpid()}\n"
    code += "".join(f"tried(lambda: {act})\n" for act in OTHERS.values())
    code += "tried(lambda: (os.nice(1), resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50))))\n"
    code += "tried(lambda: resource.prlimit(os.getpid(), resource.RLIMIT_NOFILE))\n"
    assert attempt(bench, code, warm=warm).said == [*["denied"] * len(OTHERS), "reached", "reached"]
    assert (resource.prlimit(os.getpid(), resource.RLIMIT_CPU), os.getpriority(os.PRIO_PROCESS, 0)) == before


@pytest.mark.req("B41")
def test_no_message_reaches_a_socket_of_the_host(bench: Bench, tmp_path: Path) -> None:
    code = (
        "import socket\n"
        "tried(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'x', PATH))\n"
        "tried(socket.socketpair)\n"
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path := str(tmp_path / "socket"))
        receiver.setblocking(False)
        code = f"PATH = {path!r}\n{code}"
        assert attempt(bench, code, network="on").said == ["denied", "reached"]
        audited(bench, python("audited", TRIES + code), number=2)
        with pytest.raises(BlockingIOError):
            receiver.recv(1)


LISTENER = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
static int listener = -1;
static void *let_go_on(void *nothing) {
    struct seccomp_notif call;
    for (;; usleep(1000)) {
        memset(&call, 0, sizeof call);
        if (listener < 0 || ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call)) continue;
        struct seccomp_notif_resp answer = {call.id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE};
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
    return nothing;
}
int main(int count, char **arguments) {
    struct sock_filter filter[] = {
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, 0},
        {BPF_JMP | BPF_JEQ | BPF_K, 1, 0, SYS_openat},
        {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_socket},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_USER_NOTIF},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
    };
    struct sock_fprog program = {5, filter};
    pthread_t thread;
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    pthread_create(&thread, 0, let_go_on, 0);
    listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    syscall(SYS_openat, AT_FDCWD, arguments[1], O_RDONLY);
    printf("%d\n", syscall(SYS_socket, AF_INET, SOCK_DGRAM, 0) >= 0);
    return 0;
}
"""


@pytest.mark.req("B04", "B41")
@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.parametrize("use", [Use.TRY, Use.OFF])
def test_a_step_that_watches_its_own_calls_hides_none_from_an_audit(bench: Bench, tmp_path: Path, use: Use) -> None:
    (tmp_path / "listener.c").write_text(LISTENER)
    command = ["gcc", "-static", "-O1", "-w", "-o", "listener", "listener.c", "-lpthread"]
    subprocess.run(command, cwd=tmp_path, check=True)
    program = bench.put("program", (tmp_path / "listener").read_bytes(), type="text")
    archived = bench.root / "stores/backbone/raw/archived"
    archived.write_text("x")
    script = f"cp ../inputs/program p && chmod +x p && ./p {archived}"
    report = audited(bench, shell("s", script, inputs=("program",)), inputs=(program,), use=use)
    assert report.fate is Fate.UNSTAGED_INPUT
    assert observed(report).reached[0] == str(archived)
    assert use is Use.OFF or log_of(bench) == ["0"], "nor does it get a socket that the audit denies"


def test_a_thread_that_runs_a_program_is_audited_as_any_other(bench: Bench) -> None:
    code = "import os, threading\nthreading.Thread(target=os.execv, args=['/bin/echo', ['echo', 'ran']]).start()\n"
    report = audited(bench, python("s", code))
    assert (report.fate, report.evidence) == (Fate.PUBLISHED, "")
    assert log_of(bench)[-1] == "ran"


@pytest.mark.req("B41")
@pytest.mark.skipif(shutil.which("cc") is None, reason="a C compiler is not installed")
def test_a_step_in_an_image_cannot_take_back_what_was_said(bench: Bench, tmp_path: Path) -> None:
    needs_bubblewrap()
    make_image(folder := tmp_path / "image")
    (tmp_path / "cut.c").write_text(
        "#include <unistd.h>\nint main(void) { return (!ftruncate(1, 0)) + (lseek(1, 0, SEEK_SET) == 0); }"
    )
    subprocess.run(["cc", "-o", folder / "bin/cut", tmp_path / "cut.c"], check=True)
    name = f"survey/tiny@{digest_of_folder(folder)}"
    bench.containers = Containers(runtime="bubblewrap", images={name: folder})
    bench.confinement = NodeConfinement()
    steps = [shell("one", "echo said"), shell("two", "cut && echo also", image=name)]
    report = bench.run_one(bench.order(*steps))
    assert (report.fate, report.evidence) == (Fate.PUBLISHED, "")
    assert log_of(bench) == ["said", "also"]


def test_a_file_of_holes_is_refused_before_anybody_reads_it_for_years(bench: Bench) -> None:
    code = "open('o.txt', 'w').truncate(7 << 40)"
    disk = os.statvfs(bench.root)
    if disk.f_blocks * disk.f_frsize > 7 << 40:
        pytest.skip("the disk here may have files of this size")
    order = bench.order(python("s", code, output("o", "o.txt")))
    must_fail(bench, order, Fate.BAD_OUTPUT, "o.txt is of 7,696,581,394,432 bytes, and its disk has ")
