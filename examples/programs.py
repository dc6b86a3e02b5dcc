"""Run the programs of others, as a person types them: what the examples compare nightmill with."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


class ProgramFailed(RuntimeError):
    """A program is not there, or ended with an error; the message has its last lines."""


def run(*argv: object, directory: Path) -> str:
    """Run a program to its end, and give what it wrote to standard output and standard error.

    Both are kept in ``PROGRAM.log`` of the folder, too, after those of earlier runs.

    Raises
    ------
    ProgramFailed
        If the program is not installed or exits with another code than 0.
    """
    words = [str(word) for word in argv]
    name = Path(words[0]).name
    if shutil.which(words[0]) is None:
        raise ProgramFailed(f"{name} is not installed; .ci/packages.txt lists the Debian packages of the examples")
    done = subprocess.run(
        words, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
    )
    with (directory / f"{name}.log").open("a") as log:
        log.write(f"$ {' '.join(words)}\n{done.stdout}")
    if done.returncode != 0:
        last = "\n".join(done.stdout.splitlines()[-8:])
        raise ProgramFailed(f"{name} ended with {done.returncode} in {directory}:\n{last}")
    return done.stdout
