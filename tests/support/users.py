"""Being somebody else than root."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from nightmill.execution.confine import spawner_process

SPAWNER = Path(spawner_process.__file__)
"""What starts steps."""


@contextmanager
def ordinary_user(*, runs: Path | None = None) -> Iterator[Path]:
    """Be a user whom permissions bind, with a folder of their own.

    Parameters
    ----------
    runs
        A script that is to be run as that user: the test is skipped where only root can read it, or this Python.
    """
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        before = os.geteuid()
        os.setresuid(before or 65534, before or 65534, -1)
        try:
            if runs is not None:
                _must_run(runs)
            yield Path(folder)
        finally:
            os.setresuid(before, before, -1)


def _must_run(script: Path) -> None:
    try:
        subprocess.run([sys.executable, "-I", "-S", "-c", f"open({str(script)!r}).close()"], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"an ordinary user of this machine cannot run {script} with {sys.executable}: {error}")
