"""What the paths of a host lie on, as its kernel tells: which of them come over a network."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

_OWN: Final = Path("/proc/self/mountinfo")
_NETWORK: Final = re.compile(
    r"9p|afs|beegfs|ceph|cifs|coda|fuse(\..+)?|glusterfs|gpfs|lustre|ncpfs|nfs4?|orangefs|pvfs2|smb3|smbfs"
)
"""File systems that come over a network, or, as those of FUSE, from a program that may do anything."""
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")
_AUTOMATIC: Final = "autofs"
"""What mounts others when something in it is asked for."""
_PATH: Final = re.compile(r"(?:(?<![\w./}-])|(?<=^-[A-Z])|(?<=\s-[A-Z]))/[^\s:=,;'\"()<>|&]+")
"""A whole path in a text that may be an option, a list or a script."""


@dataclass(frozen=True)
class Mount:
    """A mounted file system.

    Parameters
    ----------
    point
        The folder where it is mounted.
    kind
        The type of file system, as ``nfs4``.
    source
        What is mounted, as ``server:/export``.
    """

    point: Path
    kind: str
    source: str

    @property
    def is_network(self) -> bool:
        """Whether it comes over a network, or from a program."""
        return _NETWORK.fullmatch(self.kind) is not None

    def __str__(self) -> str:
        return f"{self.point} ({self.kind}, {self.source})"


@lru_cache(maxsize=4)
def mounts_of(text: str) -> tuple[Mount, ...]:
    """Return what ``mountinfo`` of the kernel says, in its order; lines that are not understood are passed over."""
    found = []
    for line in text.splitlines():
        own, _, of_system = line.partition(" - ")
        fields, kind_and_source = own.split(), of_system.split()
        if len(fields) > 4 and len(kind_and_source) > 1:
            kind, source = map(_plain, kind_and_source[:2])
            found.append(Mount(Path(_plain(fields[4])), kind, source))
    return tuple(found)


def _plain(text: str) -> str:
    return os.fsdecode(_ESCAPED.sub(lambda code: chr(int(code[1], 8)), text).encode("latin-1", "surrogateescape"))


def network_mount(path: Path, mounts: Sequence[Mount]) -> Mount | None:
    """Return the network mount that a path lies on, or that it leads to over links; None where that is none."""
    whole = os.path.abspath(path)  # noqa: PTH100 - links are followed below
    for each in dict.fromkeys((os.path.realpath(whole), whole)):
        over = [mount for mount in mounts if Path(each).is_relative_to(mount.point)]
        if over:
            depth = max(len(mount.point.parts) for mount in over)
            seen = [mount for mount in over if len(mount.point.parts) == depth][-1]  # of two on one folder, the later
            if seen.is_network:
                return seen
    return None


def paths_of(argv: Sequence[str], environment: Mapping[str, str]) -> Iterator[Path]:
    """Yield the paths on this host that a command depends on, as far as it says so; each is there.

    These are its program, found by its ``PATH`` or that of this process, the packages of this Python where it is one,
    and each whole path in its arguments and variables. What programs open by themselves is not known.
    """
    program, *arguments = argv or ("",)
    if program == sys.executable:
        yield from (Path(program), Path(sys.prefix))
    elif (found := Path(shutil.which(program, path=environment.get("PATH")) or "")).is_absolute():
        yield found
    for text in (*arguments, *environment.values()):
        for word in dict.fromkeys([text, *_PATH.findall(text)] if text.startswith("/") else _PATH.findall(text)):
            if os.path.lexists(word):
                yield Path(word)


def on_network(paths: Iterable[Path]) -> list[str]:
    """Return a sentence for each path on a network mount that this process sees; without any, no path is asked for."""
    if not any(mount.is_network or mount.kind == _AUTOMATIC for mount in _seen()):
        return []
    wanted = list(dict.fromkeys(paths))
    for path in wanted:
        os.path.lexists(path)  # what is mounted when it is asked for, is now
    mounts = _seen()
    found = [(path, network_mount(path, mounts)) for path in wanted]
    return [f"{path} lies on a network mount, {mount}" for path, mount in found if mount is not None]


def _seen() -> tuple[Mount, ...]:
    return mounts_of(_OWN.read_text(errors="surrogateescape"))
