"""Other systems that do the same work, measured in the same run where they are installed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

SNAKEFILE = """\
rule all:
    input: [f"made/{{name}}" for name in {names}]

rule copy:
    input: "{folder}/{{name}}"
    output: "made/{{name}}"
    shell: "cp {{input}} {{output}}"
"""


def has_snakemake() -> bool:
    """Whether Snakemake is installed beside this Python."""
    return find_spec("snakemake") is not None


def snakemake_milliseconds(folder: Path, sources: Sequence[Path]) -> float:
    """Return what a job costs in Snakemake: one core, a job for each file, which copies it.

    What Snakemake needs once, to start and to build its graph of jobs, is taken off: it is the time of a second call,
    which finds everything made. It neither hashes the files nor makes them durable.

    Parameters
    ----------
    folder
        Where it works; made here.
    sources
        Files of one folder.

    Raises
    ------
    subprocess.CalledProcessError
        Where it fails; what it said is on the error.
    AssertionError
        Where it left a file out.
    """
    folder.mkdir()
    names = [source.name for source in sources]
    (folder / "Snakefile").write_text(SNAKEFILE.format(names=names, folder=sources[0].parent))
    first, nothing = _call(folder), _call(folder)
    made = sum(1 for _ in (folder / "made").iterdir())
    if made != len(sources):
        raise AssertionError(f"Snakemake made {made} files of {len(sources)}")
    return (first - nothing) / len(sources) * 1000


def _call(folder: Path) -> float:
    argv = [sys.executable, "-m", "snakemake", "--cores", "1", "--quiet", "all"]
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache"), "HOME": str(folder)}
    start = time.perf_counter()
    subprocess.run(argv, cwd=folder, env=environment, check=True, capture_output=True, text=True)
    return time.perf_counter() - start
