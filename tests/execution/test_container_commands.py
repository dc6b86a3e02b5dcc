"""The command lines of runtimes that these tests do not call: what is asked of podman, docker and apptainer."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pytest

from nightmill.errors import RequestRefused
from nightmill.execution.launch.containers.apptainer import Apptainer
from nightmill.execution.launch.containers.oci import docker, podman
from nightmill.execution.launch.containers.opened import OpenedContainers
from nightmill.execution.launch.containers.port import Shown
from nightmill.execution.launch.plain import Launch
from nightmill.model.container import Containers, ImageCopy

IMAGE = f"registry.example.org/survey/reduce@sha256:{'a' * 64}"
SCRATCH = Path('/a site, "x"/s')
LAUNCH = Launch(("reduce", "--in", "../inputs/a"), SCRATCH / "work", {"FILTER": "r"}, 1)
ROOM = (Shown(SCRATCH, SCRATCH, writable=True), Shown(SCRATCH / "inputs", SCRATCH / "inputs"))
MOUNTS = [
    'type=bind,"source=/a site, ""x""/s","target=/a site, ""x""/s"',
    'type=bind,"source=/a site, ""x""/s/inputs","target=/a site, ""x""/s/inputs",readonly',
]


def values(argv: list[str], option: str) -> list[str]:
    return [argv[place + 1] for place, word in enumerate(argv) if word == option]


def test_podman() -> None:
    argv = podman().argv(LAUNCH, IMAGE, ROOM)
    assert argv[:2] == ["podman", "run"]
    assert argv[-5:] == ["--entrypoint", "reduce", IMAGE, "--in", "../inputs/a"]
    for option in ("--rm", "--init", "--pull=never", "--network=none", "--read-only", "--cap-drop=all"):
        assert option in argv
    assert "--security-opt=no-new-privileges" in argv
    assert f"--user={os.getuid()}:{os.getgid()}" in argv
    assert ("--userns=keep-id" in argv) is (os.getuid() != 0)
    assert values(argv, "--mount") == MOUNTS
    assert values(argv, "--env") == ["FILTER=r"]
    assert values(argv, "--workdir") == [str(SCRATCH / "work")]
    assert "--interactive" not in argv
    piped = podman().argv(LAUNCH, IMAGE, ROOM, terminal=True)
    assert ("--interactive" in piped, "--tty" in piped) == (True, False)  # the input of a test is not a terminal


def test_docker() -> None:
    argv = docker().argv(LAUNCH, IMAGE, ROOM)
    assert argv[:2] == ["docker", "run"]
    assert "--userns=keep-id" not in argv
    assert f"--user={os.getuid()}:{os.getgid()}" in argv


def test_apptainer() -> None:
    argv = Apptainer().argv(LAUNCH, "/images/reduce.sif", ROOM)
    assert argv[:2] == ["apptainer", "exec"]
    assert argv[-4:] == ["/images/reduce.sif", "reduce", "--in", "../inputs/a"]
    assert values(argv, "--network") == ["none"]
    assert values(argv, "--pwd") == [str(SCRATCH / "work")]
    assert values(argv, "--mount") == [MOUNTS[0], MOUNTS[1].removesuffix("readonly") + "ro"]


def test_a_file_of_apptainer_is_what_its_digest_says(tmp_path: Path) -> None:
    file = tmp_path / "reduce.sif"
    file.write_bytes(b"an image")
    digest = f"sha256:{sha256(b'an image').hexdigest()}"
    copy = ImageCopy(path=file, digest=digest)
    assert Apptainer().find(IMAGE, copy, tmp_path) == str(file)
    with pytest.raises(RequestRefused, match=f"the file {file} is not what its digest says: it has {digest}"):
        Apptainer().find(IMAGE, copy.model_copy(update={"digest": IMAGE.partition("@")[2]}), tmp_path)
    with pytest.raises(RequestRefused, match="is not on this host: no file is named for it"):
        Apptainer().find(IMAGE, None, tmp_path)


def test_a_host_that_lets_nobody_make_containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bwrap").write_text(
        '#!/bin/sh\nif [ "$1" = --version ]; then echo bubblewrap 1; exit; fi\n'
        "echo bwrap: No permissions to create new namespace; exit 1\n"
    )
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(
        RequestRefused, match=r"not let its user make containers: .*No permissions .*; ask for user names"
    ):
        OpenedContainers(Containers(runtime="bubblewrap"), tmp_path).version()


def test_an_image_that_the_store_of_podman_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "podman").write_text(
        '#!/bin/sh\ncase "$1" in --version) echo podman 4;; info) echo 2;; *) exit 125;; esac\n'
    )
    (tmp_path / "podman").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    opened = OpenedContainers(Containers(runtime="podman"), tmp_path)
    with pytest.raises(RequestRefused, match=rf"is not on this host: podman image inspect .* podman pull {IMAGE}"):
        opened.find(IMAGE)
