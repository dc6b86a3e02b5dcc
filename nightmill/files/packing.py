"""Packing a folder: the same files give the same archive, whoever packs them, when and where."""

from __future__ import annotations

import os
import re
import stat
import tarfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final

from nightmill.errors import RequestRefused
from nightmill.files.archive import MAX_FILES, unfit_name
from nightmill.model.bundle import BundleFile
from nightmill.model.pipeline import BundleRules

LEFT_OUT: Final = (
    ".git", ".hg", ".svn", "__pycache__", "*.py[co]", ".ipynb_checkpoints", ".*_cache", ".venv", "*~", ".*.sw?", ".#*",
    "#*#", ".DS_Store", "nightmill.yaml",
)  # fmt: skip
"""Names that are never packed: what tools leave behind, and a site's own file, which may hold secrets."""
SITE_FILE: Final = "nightmill.yaml"
_SHOWN: Final = 5
_CAMPAIGN: Final = re.compile(rb"^campaign[ \t]*:", re.MULTILINE)
_HEAD_BYTES: Final = 1 << 16


@dataclass(frozen=True)
class _Found:
    """A file to pack: its path in the archive, and which file that is."""

    path: str
    source: str
    facts: tuple[int, ...]
    size_bytes: int
    executable: bool


class _Sink:
    """Hashes and counts what is written to it, and passes it on."""

    def __init__(self, target: BinaryIO | None) -> None:
        self.digest = sha256()
        self.size_bytes = 0
        self._target = target

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size_bytes += len(data)
        return len(data) if self._target is None else self._target.write(data)

    def tell(self) -> int:
        return self.size_bytes


class _Source:
    """Hashes what is read of a file."""

    def __init__(self, file: BinaryIO) -> None:
        self.digest = sha256()
        self._file = file

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


def pack_folder(
    folder: Path, rules: BundleRules, *, apart: Collection[str] = (), target: BinaryIO | None = None
) -> tuple[str, int, tuple[BundleFile, ...]]:
    """Pack the files of a folder into a tar archive that depends on their paths, bytes and executable bits alone.

    A symbolic link to a file that is packed, too, becomes a copy of that; folders without files are not kept.

    Parameters
    ----------
    rules
        What to take.
    apart
        Real paths of files and folders that belong to something else.
    target
        Where the archive is written; without one, only its digest is worked out.

    Returns
    -------
    str
        SHA-256 of the archive, as hexadecimal digits.
    int
        Its size in bytes.
    tuple of BundleFile
        What is in it.

    Raises
    ------
    RequestRefused
        Where the folder cannot be packed: it names all files that stand in the way, the largest where it has too much.
    """
    try:
        root = os.path.realpath(folder, strict=True)
        found = _Finder(root, rules, frozenset(apart)).find()
        _must_fit(folder, found, rules)
        sink = _Sink(target)
        with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as archive:  # type: ignore[call-overload]
            files = tuple([_add(archive, each) for each in found])
    except OSError as error:
        raise RequestRefused(
            f"the pipeline's folder {folder} cannot be packed: {error.filename or folder}: {error.strerror}",
            remedy="let it be read, or leave it out with 'bundle.exclude' in the pipeline file",
        ) from error
    return sink.digest.hexdigest(), sink.size_bytes, files


class _Finder:
    """Finds what is to be packed."""

    def __init__(self, root: str, rules: BundleRules, apart: frozenset[str]) -> None:
        self.root = root
        self.rules = rules
        self.apart = apart
        self.found: dict[str, _Found] = {}
        self.links: list[str] = []
        self.problems: list[str] = []

    def find(self) -> list[_Found]:
        """Return the files in the order of their paths."""
        waiting = [("", not self.rules.include)]
        while waiting:
            folder, is_included = waiting.pop()
            for entry in self._entries(folder):
                path = f"{folder}/{entry.name}" if folder else entry.name
                if _is_like(path, entry.name, (*LEFT_OUT, *self.rules.exclude)) or entry.path in self.apart:
                    continue
                included = is_included or _is_like(path, entry.name, self.rules.include)
                facts = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(facts.st_mode):
                    waiting.append((path, included))
                elif included:
                    self._take(path, entry.path, facts)
        for path in self.links:
            self._follow(path)
        if self.problems:
            listed = "\n".join(f"  - {problem}" for problem in sorted(self.problems))
            raise RequestRefused(
                f"the pipeline's folder {self.root} cannot be packed\n{listed}",
                remedy="change it, or leave such files out with 'bundle.exclude' in the pipeline file",
            )
        return sorted(self.found.values(), key=lambda each: each.path.encode())

    def _entries(self, folder: str) -> Iterator[os.DirEntry[str]]:
        where = os.path.join(self.root, folder) if folder else self.root  # noqa: PTH118 - of thousands of files
        with os.scandir(where) as entries:
            there = list(entries)
        if folder and any(entry.name == SITE_FILE for entry in there):
            return iter(())  # another site, with all that it holds
        return iter(there)

    def _take(self, path: str, source: str, facts: os.stat_result) -> None:
        if len(self.found) >= MAX_FILES:
            raise RequestRefused(
                f"the pipeline's folder {self.root} has more than {MAX_FILES} files, {path!r} among them",
                remedy="give the pipeline a folder of its own, or leave out what steps do not need with"
                " 'bundle.exclude' in the pipeline file",
            )
        if why := unfit_name(path):
            self.problems.append(f"{path!r}: {why}")
        elif stat.S_ISLNK(facts.st_mode):
            self.links.append(path)
        elif not stat.S_ISREG(facts.st_mode):
            self.problems.append(f"{path} is not a file but {_kind_of(facts.st_mode)}")
        elif not _is_campaign(path, source):
            executable = bool(facts.st_mode & stat.S_IXUSR)
            self.found[path] = _Found(path, source, _facts(facts), facts.st_size, executable)

    def _follow(self, path: str) -> None:
        """Take the file that a link leads to, where that is packed under its own name, too."""
        real = os.path.realpath(f"{self.root}/{path}")
        inside = real.removeprefix(f"{self.root}/")
        if real == inside:
            self.problems.append(f"{path} is a link that leads out of the folder, to {real}")
        elif inside not in self.found:
            self.problems.append(f"{path} is a link to {inside}, which is not a file that is packed")
        else:
            seen = self.found[inside]
            self.found[path] = _Found(path, seen.source, seen.facts, seen.size_bytes, seen.executable)


def _is_like(path: str, name: str, patterns: Sequence[str]) -> bool:
    plain = (pattern.rstrip("/").removeprefix("./") for pattern in patterns)
    return any(fnmatchcase(path if "/" in pattern else name, pattern) for pattern in plain)


def _is_campaign(path: str, source: str) -> bool:
    """Whether a file is a campaign's: what is done with a pipeline changes more often than the pipeline."""
    if not path.endswith((".yaml", ".yml")):
        return False
    with open(source, "rb", opener=_open) as file:
        return _CAMPAIGN.search(file.read(_HEAD_BYTES)) is not None


def _kind_of(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a FIFO"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def _must_fit(folder: Path, found: Sequence[_Found], rules: BundleRules) -> None:
    size_bytes = sum(each.size_bytes for each in found)
    if size_bytes <= rules.max_mb * 1e6:
        return
    largest = sorted(found, key=lambda each: -each.size_bytes)[:_SHOWN]
    listed = "\n".join(f"  - {each.path}: {each.size_bytes / 1e6:.3g} MB" for each in largest)
    raise RequestRefused(
        f"the pipeline's folder {folder} has {size_bytes / 1e6:.4g} MB in {len(found)} files, and each order would take"
        f" them along; at most {rules.max_mb:g} MB are packed. The largest:\n{listed}",
        remedy="leave out what steps do not need with 'bundle.exclude' in the pipeline file, ingest data as files of"
        " the catalogue, or raise 'bundle.max_mb'",
    )


def _add(archive: tarfile.TarFile, each: _Found) -> BundleFile:
    """Add a file as it is; refuse one that is changed meanwhile."""
    info = tarfile.TarInfo(each.path)
    info.size, info.mode = each.size_bytes, 0o755 if each.executable else 0o644
    with open(each.source, "rb", buffering=0, opener=_open) as file:
        source = _Source(file)
        is_same = _facts(os.fstat(file.fileno())) == each.facts
        if is_same:
            try:
                archive.addfile(info, source)  # type: ignore[arg-type]
            except OSError as error:
                if error.errno is not None:
                    raise
                is_same = False  # it ended early
        if not is_same or _facts(os.fstat(file.fileno())) != each.facts:
            raise RequestRefused(
                f"{each.source} was changed while it was packed", remedy="wait until nobody writes there, then submit"
            )
    return BundleFile(
        path=each.path, size_bytes=each.size_bytes, sha256=source.digest.hexdigest(), executable=each.executable
    )


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _facts(facts: os.stat_result) -> tuple[int, ...]:
    return facts.st_dev, facts.st_ino, facts.st_mode, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
