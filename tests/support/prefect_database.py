"""A database of Prefect's server that was migrated once: a server on a copy starts in a third of the time."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NAME = "prefect.db"


def migrated(factory: pytest.TempPathFactory) -> Path:
    """Return the file, which the first of all processes of this run makes."""
    base = factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    file = folder / NAME
    with (folder / f"{NAME}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            making = folder / f"{NAME}.part"
            home = folder / "prefect-home"
            url = {"PREFECT_HOME": str(home), "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{making}"}
            upgrade = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
            subprocess.run(upgrade, env={**os.environ, **url}, check=True, capture_output=True)
            assert not making.with_name(f"{making.name}-wal").exists(), "it was closed"
            making.rename(file)
    return file


def give(site: Path, database: Path) -> None:
    """Let the server of a site, which never ran, begin with a copy."""
    folder = site / ".nightmill" / "server"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (folder / NAME).exists():
        shutil.copy(database, folder / NAME)
