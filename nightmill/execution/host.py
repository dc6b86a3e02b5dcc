"""What this process may use of its host."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nightmill.errors import RequestRefused
from nightmill.model.pipeline import Resources

_GROUPS: Final = Path("/sys/fs/cgroup")
_OWN_GROUP: Final = Path("/proc/self/cgroup")
DEVICES: Final = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK")
"""By these an engine says which accelerators are a job's."""
CORES: Final = ("NIGHTMILL_CORES", "OMP_NUM_THREADS")
"""By these a step is told how many cores it may use."""


@dataclass(frozen=True)
class Host:
    """The cores and the memory that this process may use, by its affinity and its control groups."""

    name: str
    cores: int
    memory_bytes: int

    def cores_for(self, wanted: Resources) -> int:
        """Return how many cores a job has to itself: those that it asks for, at most all."""
        return min(wanted.cores, self.cores)

    def share_of(self, wanted: Resources) -> int:
        """Return how many cores to keep free of other jobs: more than a job has, where its memory is theirs.

        Raises
        ------
        RequestRefused
            Where the job needs more memory than there is.
        """
        memory = wanted.memory_bytes or 0
        if memory > self.memory_bytes:
            raise RequestRefused(
                f"a job of the stage asks for {memory} bytes of memory, and host {self.name} has {self.memory_bytes}",
                remedy="lower memory_bytes in the stage's resources, or run its slices on a larger host",
            )
        return max(self.cores_for(wanted), -(-memory * self.cores // self.memory_bytes))


def this_host(most: int | None = None) -> Host:
    """Look at the host, of which at most so many cores are to be used."""
    cores = [len(os.sched_getaffinity(0))]
    for limit in _limits("cpu.max"):
        quota, _, period = limit.partition(" ")
        cores.append(max(1, int(quota) // int(period)))
    memory = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *map(int, _limits("memory.max"))]
    return Host(socket.gethostname(), min(cores if most is None else [most, *cores]), min(memory))


def _limits(name: str) -> Iterator[str]:
    """Yield a limit of the control group (version 2) of this process, and of each around it that has one."""
    lines = _OWN_GROUP.read_text().splitlines() if _OWN_GROUP.exists() else []
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    group = _GROUPS / own
    for folder in (group, *group.parents[: len(Path(own).parts)]):
        limit = (folder / name).read_text().strip() if (folder / name).exists() else "max"
        if not limit.startswith("max"):
            yield limit
