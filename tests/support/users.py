"""Being somebody else than root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from nightmill.execution.confine import spawner_process

SPAWNER = Path(spawner_process.__file__)
"""What starts steps."""


@contextmanager
def ordinary_user(*, reads: Path | None = None, uid: int = 65534) -> Iterator[Path]:
    """Be a user whom permissions bind, with a folder of their own.

    Parameters
    ----------
    reads
        A file of the project that they must be able to read: the test is skipped where only root can.
    uid
        Their number, for who is not to share what is limited by user with other tests.
    """
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        before = os.geteuid()
        os.setresuid(before or uid, before or uid, -1)
        try:
            if reads is not None and not os.access(reads, os.R_OK, effective_ids=True):
                pytest.skip(f"an ordinary user of this machine cannot read {reads}")
            yield Path(folder)
        finally:
            os.setresuid(before, before, -1)
