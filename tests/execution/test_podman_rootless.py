"""Steps in images by podman of an ordinary user: whose they are, and that nothing of them outlives its worker."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import pytest

from nightmill.errors import RequestRefused
from nightmill.execution.launch.containers.opened import OpenedContainers
from nightmill.execution.proc import all_in
from nightmill.execution.scratch import Scratch, token
from nightmill.model.container import Containers
from nightmill.model.report import stacks
from tests.support.image import make_image
from tests.support.mounts import as_nobody
from tests.support.orders import Bench, output, shell

NOBODY = 65534
_CLONE_NEWNS = 0x20000
IDS = f"{NOBODY}:100000:65536\n"
"""What a host sets aside for its users: whose, from which ID, how many."""
CONF = '[engine]\nruntime="runc"\n'
"""What podman needs on hosts with both kinds of control groups."""


def podman(*arguments: str | Path) -> str:
    return subprocess.run(["podman", *arguments], capture_output=True, text=True, check=True).stdout.strip()


@dataclass
class Rootless:
    """An ordinary user with a home and a podman; a folder of theirs, and an image that their podman has."""

    folder: Path
    image: str = ""

    def do(self, function: Callable[[], Any], *, ids: str = IDS) -> Any:
        """Return what a function returns in a process of that user, through JSON."""
        return as_nobody(function, first=lambda: self._prepare(ids))

    def _prepare(self, ids: str) -> None:
        """Show this process alone a host that sets IDs aside, and give it the places of the user."""
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS):
            raise OSError(ctypes.get_errno(), "no mounts of its own")
        subprocess.run(["mount", "--make-rslave", "/"], check=True)
        told = self.folder / f"ids-{os.getpid()}"
        told.write_text(ids)
        told.chmod(0o644)
        for file in ("/etc/subuid", "/etc/subgid"):
            subprocess.run(["mount", "--bind", told, file], check=True)
        os.environ |= {
            "HOME": str(self.folder / "home"),
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
        }
        os.chdir("/")

    def bench(self, name: str) -> Bench:
        """Make a bench whose steps run in images; in a process of the user."""
        bench = Bench(self.folder / "home" / name)
        bench.containers = Containers(runtime="podman")
        return bench


@pytest.fixture(scope="module")
def rootless() -> Iterator[Rootless]:
    """Give an ordinary user whose podman has an image."""
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else, with IDs set aside")
    for program in ("podman", "newuidmap"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if not all(Path(file).is_file() for file in ("/etc/subuid", "/etc/subgid")):
        pytest.skip("this host has no /etc/subuid and /etc/subgid")
    with TemporaryDirectory() as name:
        user = Rootless(Path(name))
        user.folder.chmod(0o755)
        for folder in ("home", "run"):
            (user.folder / folder).mkdir(mode=0o700)
            os.chown(user.folder / folder, NOBODY, NOBODY)
        make_image(user.folder / "image")
        subprocess.run(["tar", "-C", name + "/image", "--mode=a+rX", "-cf", name + "/image.tar", "."], check=True)
        (user.folder / "containers.conf").write_text(CONF)
        for file in ("image.tar", "containers.conf"):
            (user.folder / file).chmod(0o644)

        def imported() -> tuple[str, str]:
            try:
                podman("import", user.folder / "image.tar", "nightmill-test:1")
                podman("run", "--rm", "--init", "--network=none", "--userns=keep-id", "nightmill-test:1", "id")
                return podman("image", "inspect", "--format", "{{.Digest}}", "nightmill-test:1"), ""
            except subprocess.CalledProcessError as error:
                return "", error.stderr.strip()

        digest, fault = user.do(imported)
        try:
            if fault:
                pytest.skip(f"rootless podman does not work here: {fault}")
            user.image = f"localhost/nightmill-test@{digest}"
            yield user
        finally:
            user.do(lambda: podman("system", "migrate"))  # nothing of podman stays running


@pytest.mark.req("F38", "X33")
def test_a_step_is_of_the_user_of_its_job_without_any_privilege(rootless: Rootless) -> None:
    def ran() -> Any:
        bench = rootless.bench("owner, ünïcode")
        script = "id > out.txt; cat ../inputs/a.txt /proc/self/status; ! echo x > ../inputs/a.txt"
        step = shell("s", script, output("product", "out.txt"), image=rootless.image)
        report = bench.run_one(bench.order(step, inputs=(bench.put("a.txt", b"the sky\n", type="text"),)))
        [log] = (bench.root / "stores/backbone/logs").iterdir()
        made = bench.root / "stores/backbone/products/out.txt"
        facts = made.stat()
        container = dict(stacks(bench.entries())[report.steps[0].software].container)
        return report.evidence, made.read_text(), facts.st_uid, facts.st_gid, log.read_text(), container

    evidence, said, uid, gid, log, container = rootless.do(ran)
    assert not evidence
    assert said.startswith(f"uid={NOBODY}")
    assert (uid, gid) == (NOBODY, NOBODY)
    for told in ("the sky\n", "Read-only file system", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"):
        assert told in log
    assert (container["image"], container["container runtime"][-10:]) == (rootless.image, ", rootless")


def test_a_container_ends_with_its_command_and_with_its_worker(rootless: Rootless) -> None:
    """The command that asked for it, or the worker, is ended by SIGKILL."""

    def waited(condition: Callable[[], object]) -> bool:
        deadline = time.monotonic() + 60
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.05)
        return bool(condition())

    def command_killed() -> Any:
        bench = rootless.bench("command")
        order = bench.order(shell("s", "touch ready; sleep 8003", image=rootless.image))
        scratch = bench.scratch / token(order.attempt)

        def kill_it() -> None:
            waited((scratch / "work/ready").exists)
            for entry in bench.entries():
                if entry.entry == "step_began":
                    os.kill(entry.pid, signal.SIGKILL)

        killer = Thread(target=kill_it)
        killer.start()
        report = bench.run_one(order)
        killer.join()
        return report.fate, len(all_in(scratch)), waited(lambda: not podman("ps", "--all", "--quiet"))

    def worker_killed() -> Any:
        bench = rootless.bench("worker")
        order = bench.order(shell("s", "setsid sleep 8004 & touch ready; sleep 8004", image=rootless.image))
        scratch = bench.scratch / token(order.attempt)
        worker = os.fork()
        if worker == 0:
            try:
                bench.run_one(order)
            finally:
                os._exit(0)
        began = waited((scratch / "work/ready").exists)
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)
        left = len(all_in(scratch))
        Scratch.discard(bench.scratch, order)
        return began, left, len(all_in(scratch)), scratch.exists(), waited(lambda: not podman("ps", "--all", "--quiet"))

    assert rootless.do(command_killed) == ["step_killed", 0, True]
    began, left, after, there, gone = rootless.do(worker_killed)
    assert began
    assert left >= 2
    assert (after, there, gone) == (0, False, True)


def test_a_host_that_sets_no_ids_aside_is_told(rootless: Rootless) -> None:
    def asked() -> str:
        podman("system", "migrate")
        try:
            return OpenedContainers(Containers(runtime="podman"), rootless.folder / "home").version()
        except RequestRefused as error:
            return str(error)
        finally:
            podman("system", "migrate")

    told = rootless.do(asked, ids="")
    assert told.startswith(f"podman cannot run a container as user {NOBODY}: no range of user IDs is set aside")
    assert "/etc/subuid and /etc/subgid, as by usermod --add-subuids 100000-165535" in told
    assert rootless.do(asked).endswith(", rootless")
