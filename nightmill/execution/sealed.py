"""Files that no step may change any more: what is an input, and what has passed the gate."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from nightmill.errors import BadFile
from nightmill.execution.descriptors import opened_file, path_of
from nightmill.files.checksum import fingerprint

Facts = tuple[int, ...]


@dataclass
class _Seal:
    what: str
    size_bytes: int
    sha256: str
    facts: Facts


@dataclass
class SealedFolder:
    """The files of a folder of the scratch, as they are to stay."""

    _seals: dict[str, _Seal] = field(default_factory=dict)

    def __contains__(self, name: object) -> bool:
        return name in self._seals

    def seal(self, name: str, what: str, sha256: str, facts: os.stat_result) -> None:
        """Note that a file is as it is to stay.

        Parameters
        ----------
        what
            What a message calls it.
        """
        self._seals[name] = _Seal(what, facts.st_size, sha256, _facts(facts))

    def broken(self, within: int) -> str:
        """Look at each file, and read again those that were touched, and say what was changed, or an empty string.

        It costs one look at each file: what was written, linked, renamed or replaced has another time of change, which
        only the kernel sets. A file that was touched and has the same bytes is sealed anew.
        """
        for name, seal in self._seals.items():
            try:
                facts = os.stat(name, dir_fd=within, follow_symlinks=False)
                if _facts(facts) == seal.facts:
                    continue
                with opened_file(name, within) as descriptor:
                    seal.facts = _facts(os.fstat(descriptor))
                    size_bytes, digest = fingerprint(path_of(descriptor))
            except FileNotFoundError:
                return f"{seal.what}: it is not there any more"
            except BadFile as error:
                return f"{seal.what}: {error.message} now"
            if size_bytes != seal.size_bytes:
                return f"{seal.what}: it has {size_bytes} bytes now, and had {seal.size_bytes}"
            if digest != seal.sha256:
                return f"{seal.what}: its bytes have changed"
        return ""


def _facts(facts: os.stat_result) -> Facts:
    return facts.st_dev, facts.st_ino, facts.st_mode, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
