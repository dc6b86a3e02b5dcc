"""A tiny image of an operating system, made of a few programs of this host, unpacked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nightmill.execution.launch.containers.rootfs import digest_of_folder

PROGRAMS = ("sh", "cat", "chmod", "env", "id", "ls", "mkdir", "mv", "rm", "setsid", "sleep", "touch")


def make_image(folder: Path) -> str:
    """Make an unpacked image, and return its digest.

    Its ``python3`` is not Python: it says what it was given. It has links that lead out of a folder, and to where the
    host has something else.
    """
    for name in ("bin", "etc", "home", "opt/code", "usr/lib"):
        (folder / name).mkdir(parents=True)
    for program in PROGRAMS:
        found = shutil.which(program)
        assert found is not None
        shutil.copy(found, folder / "bin" / program)
        told = subprocess.run(["ldd", found], capture_output=True, text=True, check=False).stdout
        for library in re.findall(r"(/\S+) \(0x", told):
            target = folder / library.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                shutil.copy(library, target)
    python = folder / "bin" / "python3"
    python.write_text('#!/bin/sh\necho "the python of the image: $*"\n')
    python.chmod(0o755)
    (folder / "etc" / "os-release").write_text("NAME=tiny\n")
    (folder / "opt" / "code" / "version").write_text("as in the image\n")
    (folder / "usr" / "bin").symlink_to("../bin")
    (folder / "host-etc").symlink_to("/etc")
    (folder / "up").symlink_to("../../../etc")
    return digest_of_folder(folder)


def needs_bubblewrap() -> None:
    """Skip a test where containers cannot be had."""
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    tried = subprocess.run(
        ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        pytest.skip(f"bubblewrap does not work here: {tried.stderr.strip()} (user {os.getuid()})")
