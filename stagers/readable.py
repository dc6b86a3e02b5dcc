"""What every store that can be read must do, as tests: all that a stager of a read-only store needs to pass.

A plug-in subclasses :class:`ReadableConformance` in its tests, and says how its store is opened and how a file comes
to lie in it. Of a store that can be written, :class:`stagers.conformance.StagerConformance` has these tests and more.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from nightmill.errors import StoredFileMissing, StoreError
from nightmill.model.ports import Stager

Opener = Callable[[], Stager]
Put = Callable[[Path, str], None]
"""Brings a local file into a store, under a path."""

PATH = "night1/science/frame.fits"
WHOLE = bytes(range(256)) * 32_768
"""8 MiB: enough for a half of it to be seen, if halves were to be seen."""
ESCAPES = (
    "",
    "/etc/passwd",
    "..",
    "../outside.fits",
    "night1/../../outside.fits",
    "night1/..",
    "night1//frame.fits",
    "./frame.fits",
    "night1/frame\0.fits",
)


class ReadableConformance:
    """The promises of a store that can be read. Override :meth:`opener` and :meth:`put`."""

    @pytest.fixture
    def opener(self) -> Opener:
        """Give a function that opens the same, at first empty store at each call."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture 'opener'")

    @pytest.fixture
    def put(self) -> Put:
        """Give a function by which a file comes to lie in the store."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture 'put'")

    @pytest.fixture
    def stager(self, opener: Opener) -> Stager:
        """Give a stager of the empty store."""
        return opener()

    @pytest.fixture
    def frame(self, tmp_path: Path) -> Path:
        """Give a local file."""
        return local_file(tmp_path, "frame", b"SIMPLE  =                    T")

    @pytest.mark.parametrize("content", [b"", b"x", WHOLE], ids=["empty", "one byte", "8 MiB"])
    def test_what_goes_in_comes_out(self, stager: Stager, put: Put, tmp_path: Path, content: bytes) -> None:
        """A published file has its size and checksum, and fetch brings its very bytes."""
        put(local_file(tmp_path, "in", content), PATH)
        assert stager.size(PATH) == len(content)
        assert stager.sha256(PATH) == sha256(content).hexdigest()
        assert stager.fetch(PATH, tmp_path / "out") == len(content)
        assert (tmp_path / "out").read_bytes() == content

    def test_fetch_never_overwrites(self, stager: Stager, put: Put, frame: Path, tmp_path: Path) -> None:
        """A local file that stands in the way is an error that names it, and is left as it is."""
        put(frame, PATH)
        mine = local_file(tmp_path, "mine", b"mine")
        with pytest.raises(FileExistsError, match="mine"):
            stager.fetch(PATH, mine)
        assert mine.read_bytes() == b"mine"

    def test_fetch_into_no_folder_names_the_local_path(
        self, stager: Stager, put: Put, frame: Path, tmp_path: Path
    ) -> None:
        """A local problem is an OSError and not the store's."""
        put(frame, PATH)
        with pytest.raises(FileNotFoundError, match="nowhere"):
            stager.fetch(PATH, tmp_path / "nowhere" / "copy")

    def test_what_is_not_there_is_missing(self, stager: Stager, tmp_path: Path) -> None:
        """Size is None; reading is an error that names the path; nothing is left locally."""
        assert stager.size(PATH) is None
        with pytest.raises(StoredFileMissing, match=PATH):
            stager.sha256(PATH)
        with pytest.raises(StoredFileMissing, match=PATH):
            stager.fetch(PATH, tmp_path / "copy")
        assert not (tmp_path / "copy").exists()

    def test_a_folder_is_no_file(self, stager: Stager, put: Put, frame: Path) -> None:
        """The folder of a stored file has no size, and a file is not a folder."""
        put(frame, PATH)
        assert stager.size("night1/science") is None
        assert stager.size(PATH + "/below") is None

    @pytest.mark.parametrize("path", ESCAPES)
    def test_no_reading_leaves_the_store(self, stager: Stager, tmp_path: Path, path: str) -> None:
        """Every method that reads refuses such a path by its name."""
        refused = "is not a path inside of store"
        with pytest.raises(StoreError, match=refused):
            stager.fetch(path, tmp_path / "copy")
        with pytest.raises(StoreError, match=refused):
            stager.size(path)
        with pytest.raises(StoreError, match=refused):
            stager.sha256(path)
        with pytest.raises(StoreError, match=refused):
            stager.uploaded(path, attempt="a01")
        assert not (tmp_path / "copy").exists()


def local_file(folder: Path, name: str, content: bytes) -> Path:
    """Make a local file, and return where it is."""
    path = folder / name
    path.write_bytes(content)
    return path
