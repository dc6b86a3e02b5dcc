"""How the tests run step programs, and where things of the simulated night are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import examples

EXAMPLES = Path(examples.__file__).parent
MAGNITUDES = ("--zero-point", "g=25.0", "r=25.2", "--extinction", "g=0.2", "r=0.12")


def run_step(program: str, *arguments: object, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a step program, as ``ccd/reduce``, in a process of its own with warnings as errors."""
    example, name = program.split("/")
    return subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / example / "steps" / f"{name}.py", *map(str, arguments)],
        cwd=directory,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )


@dataclass(frozen=True)
class Night:
    """A simulated night: exposures 1-4 are biases, 5-7 flats in g, 8-10 flats in r, 11 is science in g, 12 in r."""

    folder: Path

    @property
    def truth(self) -> Path:
        return self.folder / "truth.ecsv"

    def frames(self, kind: str, exposures: range, detector: int) -> list[Path]:
        return [self.folder / kind / f"nmcam_{number:08d}_{detector:02d}.fits" for number in exposures]


@dataclass(frozen=True)
class Products:
    """What the step programs made of detector 2 of exposure 11, and the answer of the last of them."""

    bias: Path
    flat: Path
    reduced: Path
    cleaned: Path
    catalog: Path
    quality: Path


def needs(*programs: str) -> None:
    """Skip a test whose programs are not installed."""
    if missing := [program for program in programs if shutil.which(program) is None]:
        pytest.skip(f"not installed: {', '.join(missing)} (.ci/packages.txt lists the Debian packages)")
