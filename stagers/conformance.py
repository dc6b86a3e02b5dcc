"""What every stager must do, as tests that a plug-in runs on its own kind of store.

A plug-in subclasses :class:`StagerConformance` in its tests and says how its store is opened::

    from stagers.conformance import StagerConformance

    class TestTapeStager(StagerConformance):
        @pytest.fixture
        def opener(self, tape_robot):
            return lambda: TapeStager(Store(name="tape", url=tape_robot.url))

Each test shows one promise of :class:`nightmill.model.ports.Stager`. Needs pytest.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from nightmill.errors import NameCollision, StoredFileMissing, StoreError
from nightmill.model.ports import Stager
from stagers.races import Races, publish
from stagers.readable import ESCAPES, PATH, Opener, Put, ReadableConformance, local_file

__all__ = ["StagerConformance", "publish"]


class StagerConformance(Races, ReadableConformance):
    """The promises of a stager. Override :meth:`opener`."""

    @pytest.fixture
    def put(self, opener: Opener) -> Put:
        """Give a function that brings a file into the store, by the stager itself."""
        return lambda source, path: publish(opener(), source, path)

    # ------------------------------------------------------------------------------------- in and out

    @pytest.mark.parametrize("name", ["DECam_00012_03.fits", "a+b=c-d.x_y", "." + "x" * 20, "n" * 195 + ".fits"])
    def test_every_fit_name_can_be_stored(self, stager: Stager, frame: Path, name: str) -> None:
        """Names of up to 200 of the characters that a catalogue allows."""
        publish(stager, frame, f"night1/{name}", attempt="science-exposure=12345678-detector=62-a01-0123456789")
        assert list(stager.list("night1")) == [(f"night1/{name}", frame.stat().st_size)]

    def test_a_fetched_copy_is_no_way_into_the_store(self, stager: Stager, frame: Path, tmp_path: Path) -> None:
        """Whatever happens to a copy does not reach the stored file."""
        publish(stager, frame, PATH)
        copy = tmp_path / "copy"
        stager.fetch(PATH, copy)
        copy.chmod(0o600)
        copy.write_bytes(b"scribble")
        assert stager.sha256(PATH) == sha256(frame.read_bytes()).hexdigest()

    def test_the_source_may_change_after_its_upload(self, stager: Stager, frame: Path) -> None:
        """What was uploaded does not follow the local file that it came from."""
        before = frame.read_bytes()
        publish(stager, frame, PATH)
        frame.write_bytes(b"scribble")
        assert stager.sha256(PATH) == sha256(before).hexdigest()

    def test_upload_of_no_file_names_the_local_path(self, stager: Stager, tmp_path: Path) -> None:
        """A local file that is not there is an OSError, and nothing comes into the store."""
        with pytest.raises(FileNotFoundError, match="not-made"):
            stager.upload(tmp_path / "not-made", PATH, attempt="a01")
        assert stager.uploaded(PATH, attempt="a01") is None

    # -------------------------------------------------------------------------------------- visibility

    def test_an_upload_is_not_visible(self, stager: Stager, frame: Path, tmp_path: Path) -> None:
        """Before reveal nobody finds the file under its name, nor in a listing."""
        stager.upload(frame, PATH, attempt="a01")
        assert stager.size(PATH) is None
        assert list(stager.list()) == []
        with pytest.raises(StoredFileMissing):
            stager.fetch(PATH, tmp_path / "copy")

    def test_a_later_process_finds_an_upload(self, opener: Opener, frame: Path) -> None:
        """It has the size and the checksum of what was uploaded, and can be revealed by another process."""
        opener().upload(frame, PATH, attempt="a01")
        content = frame.read_bytes()
        assert opener().uploaded(PATH, attempt="a01") == (len(content), sha256(content).hexdigest())
        opener().reveal(PATH, attempt="a01")
        assert opener().size(PATH) == len(content)

    def test_a_reveal_uses_the_upload_up(self, stager: Stager, frame: Path) -> None:
        """Afterwards there is one file and no upload."""
        publish(stager, frame, PATH)
        assert stager.uploaded(PATH, attempt="a01") is None
        assert list(stager.list()) == [(PATH, frame.stat().st_size)]
        with pytest.raises((StoredFileMissing, NameCollision), match=PATH):
            stager.reveal(PATH, attempt="a01")

    # ------------------------------------------------------------------------------------- exclusivity

    def test_a_name_is_given_once(self, stager: Stager, frame: Path, tmp_path: Path) -> None:
        """A second file under the name is refused, and the first keeps its bytes."""
        other = local_file(tmp_path, "other", b"other bytes")
        stager.upload(frame, PATH, attempt="a01")
        stager.upload(other, PATH, attempt="a02")
        stager.reveal(PATH, attempt="a01")
        with pytest.raises(NameCollision, match=PATH):
            stager.reveal(PATH, attempt="a02")
        assert stager.sha256(PATH) == sha256(frame.read_bytes()).hexdigest()
        stager.discard(PATH, attempt="a02")
        assert stager.uploaded(PATH, attempt="a02") is None

    def test_an_upload_to_a_taken_name_is_refused_at_once(self, stager: Stager, frame: Path) -> None:
        """Even with the same bytes: they are another's."""
        publish(stager, frame, PATH)
        with pytest.raises(NameCollision, match=PATH):
            stager.upload(frame, PATH, attempt="a02")
        assert stager.uploaded(PATH, attempt="a02") is None

    # ------------------------------------------------------------------------------------ what arrived

    @pytest.mark.parametrize(
        "other", [b"SIMPLE  =                    F", b"SIMPLE", b""], ids=["as long", "half", "none"]
    )
    def test_an_upload_is_what_is_there_now(self, opener: Opener, frame: Path, tmp_path: Path, other: bytes) -> None:
        """Its size and checksum are read, and not remembered: what arrived cut or changed is told."""
        stager = opener()
        stager.upload(frame, PATH, attempt="a01")
        stager.uploaded(PATH, attempt="a01")
        opener().upload(local_file(tmp_path, "other", other), PATH, attempt="a01")
        assert stager.uploaded(PATH, attempt="a01") == (len(other), sha256(other).hexdigest())

    def test_what_was_exchanged_after_it_was_read_gets_no_name(
        self, opener: Opener, frame: Path, tmp_path: Path
    ) -> None:
        """What is published is what was verified."""
        stager = opener()
        stager.upload(frame, PATH, attempt="a01")
        stager.uploaded(PATH, attempt="a01")
        opener().upload(local_file(tmp_path, "other", b"SIMPLE  =                    F"), PATH, attempt="a01")
        with pytest.raises(StoreError, match=f"{PATH}.* was changed in store"):
            stager.reveal(PATH, attempt="a01")
        assert stager.size(PATH) is None

    # ---------------------------------------------------------------------------------------- cleaning

    def test_uploads_of_attempts_are_apart(self, stager: Stager, frame: Path, tmp_path: Path) -> None:
        """One attempt's upload is not the other's, and discarding one leaves the other."""
        other = local_file(tmp_path, "other", b"other bytes")
        stager.upload(frame, PATH, attempt="a01")
        stager.upload(other, PATH, attempt="a02")
        stager.discard(PATH, attempt="a01")
        assert stager.uploaded(PATH, attempt="a01") is None
        assert stager.uploaded(PATH, attempt="a02") == (11, sha256(b"other bytes").hexdigest())

    def test_uploads_to_different_names_are_apart(self, stager: Stager, frame: Path, tmp_path: Path) -> None:
        """However long the names are, and however late they differ."""
        other = local_file(tmp_path, "other", b"other bytes")
        stager.upload(frame, "n" * 194 + "1.fits", attempt="a01")
        stager.upload(other, "n" * 194 + "2.fits", attempt="a01")
        assert stager.uploaded("n" * 194 + "1.fits", attempt="a01") != stager.uploaded(
            "n" * 194 + "2.fits", attempt="a01"
        )

    def test_an_upload_may_be_done_again(self, stager: Stager, frame: Path, tmp_path: Path) -> None:
        """The later upload of an attempt is the one that counts."""
        stager.upload(local_file(tmp_path, "first", b"first"), PATH, attempt="a01")
        publish(stager, frame, PATH)
        assert stager.sha256(PATH) == sha256(frame.read_bytes()).hexdigest()

    def test_discard_leaves_the_file(self, stager: Stager, frame: Path) -> None:
        """It takes uploads only, and finds nothing to do without complaint."""
        stager.discard(PATH, attempt="a01")
        publish(stager, frame, PATH)
        stager.discard(PATH, attempt="a01")
        assert stager.size(PATH) == frame.stat().st_size

    def test_a_reveal_without_an_upload_is_an_error(self, stager: Stager, frame: Path) -> None:
        """And makes nothing visible; the upload of another attempt does not help."""
        stager.upload(frame, PATH, attempt="a02")
        with pytest.raises(StoredFileMissing, match=PATH):
            stager.reveal(PATH, attempt="a01")
        assert stager.size(PATH) is None

    def test_removed_is_gone_and_the_name_free(self, stager: Stager, frame: Path) -> None:
        """Removing twice is not an error."""
        publish(stager, frame, PATH)
        stager.remove(PATH)
        stager.remove(PATH)
        assert stager.size(PATH) is None
        publish(stager, frame, PATH, attempt="a02")

    # ---------------------------------------------------------------------------------- lists and paths

    def test_a_list_has_every_file_below_its_prefix(self, stager: Stager, frame: Path) -> None:
        """With its size; a prefix is a folder, and one that is not there has no files."""
        size = frame.stat().st_size
        for path in ("a/1", "a/b/2", "ab/3"):
            publish(stager, frame, path)
        stager.upload(frame, "a/4", attempt="a01")
        assert sorted(stager.list()) == [("a/1", size), ("a/b/2", size), ("ab/3", size)]
        assert sorted(stager.list("a")) == [("a/1", size), ("a/b/2", size)]
        assert list(stager.list("c")) == []

    def test_uploads_are_listed_until_they_are_revealed(self, stager: Stager, frame: Path) -> None:
        """Each with the attempt that it is of."""
        assert list(stager.uploads()) == []
        for path, attempt in (("a/1", "one-a01-ab"), ("a/b/2", "two.a02"), ("3", "three")):
            stager.upload(frame, path, attempt=attempt)
        assert sorted(attempt for _place, attempt in stager.uploads()) == ["one-a01-ab", "three", "two.a02"]
        stager.reveal("a/1", attempt="one-a01-ab")
        stager.discard("3", attempt="three")
        assert [attempt for _place, attempt in stager.uploads()] == ["two.a02"]

    def test_settle_takes_files_of_many_folders(self, stager: Stager, frame: Path) -> None:
        """And any iterable of them, an empty one too."""
        paths = ["a/1", "a/2", "b/c/3", "4"]
        for path in paths:
            stager.upload(frame, path, attempt="a01")
            stager.reveal(path, attempt="a01")
        stager.settle(path for path in paths)
        stager.settle([])
        assert sorted(path for path, _size in stager.list()) == sorted(paths)

    @pytest.mark.parametrize("path", ESCAPES)
    def test_a_path_cannot_leave_the_store(self, stager: Stager, frame: Path, path: str) -> None:
        """Every method refuses it by name, and writes nothing."""
        refused = "is not a path inside of store"
        with pytest.raises(StoreError, match=refused):
            stager.upload(frame, path, attempt="a01")
        with pytest.raises(StoreError, match=refused):
            stager.reveal(path, attempt="a01")
        with pytest.raises(StoreError, match=refused):
            stager.settle([path])
        with pytest.raises(StoreError, match=refused):
            stager.discard(path, attempt="a01")
        with pytest.raises(StoreError, match=refused):
            stager.remove(path)
        if path:
            with pytest.raises(StoreError, match=refused):
                list(stager.list(path))
        assert list(stager.list()) == []
