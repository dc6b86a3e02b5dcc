"""What every format must do, as tests that a plug-in runs on files of its own.

A plug-in subclasses :class:`FormatConformance` in its tests, and gives a file that is whole and some that are not::

    from nightmill.testing.formats import FormatConformance

    class TestTable(FormatConformance):
        @pytest.fixture
        def format(self):
            return Table()

        @pytest.fixture
        def whole(self):
            return b"..."

        @pytest.fixture
        def broken(self):
            return {"bad_header": b"..."}

Each test shows one promise of :class:`nightmill.model.ports.Format`. A format whose files hold tables has a second
suite, :class:`TableConformance`, for :class:`nightmill.model.ports.TableFormat`. Needs pytest.
"""

from __future__ import annotations

import gc
import os
import random
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

import pytest

from nightmill.errors import BadFile
from nightmill.model.attachment import RowValue
from nightmill.model.content import Content, Section
from nightmill.model.ports import Format, KeywordFormat, TableFormat

Held = tuple[bytes, int | str, Mapping[str, Sequence[RowValue]]]
CUTS = 40
"""At how many places a whole file is cut, and how many garbled files are read."""


class FormatConformance:
    """The promises of a format. Override :meth:`format`, :meth:`whole` and :meth:`broken`.

    One that takes long over each file may lower ``cuts`` and ``reads``.
    """

    cuts: ClassVar[int] = CUTS
    reads: ClassVar[int] = 64

    @pytest.fixture
    def format(self) -> Format:
        """Give the format."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture 'format'")

    @pytest.fixture
    def whole(self) -> bytes:
        """Give the bytes of a file that is whole, and says something of itself if the format lets it."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture 'whole'")

    @pytest.fixture
    def broken(self) -> Mapping[str, bytes]:
        """Give the bytes of files that are to be refused, by the reason; none for a format that takes everything."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture 'broken'")

    @pytest.fixture
    def file(self, tmp_path: Path, whole: bytes) -> Path:
        """Give a file that is whole."""
        path = tmp_path / "whole.bin"
        path.write_bytes(whole)
        return path

    def test_every_byte_is_digested_once_and_in_order(self, format: Format, file: Path, whole: bytes) -> None:
        """The digest is that of the file, and the size too, whether checksums are verified or not."""
        for verify in (False, True):
            digest = sha256()
            content = format.read(file, digest=digest, verify=verify)
            assert (digest.hexdigest(), content.size_bytes) == (sha256(whole).hexdigest(), len(whole))

    def test_an_open_file_is_read_from_its_beginning_and_stays_open(self, format: Format, file: Path) -> None:
        """Where there is a descriptor, the path is a name and nothing else."""
        expected = told(format.read(file))
        with file.open("rb") as opened:
            os.lseek(opened.fileno(), 3, os.SEEK_SET)
            for _ in range(2):
                assert told(format.read("/nowhere/else", descriptor=opened.fileno())) == expected
            os.fstat(opened.fileno())

    def test_reading_leaves_nothing_open(self, format: Format, file: Path, broken: Mapping[str, bytes]) -> None:
        """Whether a file is whole or not."""
        before = open_files()
        format.read(file)
        for content in broken.values():
            file.write_bytes(content)
            with pytest.raises(BadFile):
                format.read(file, verify=True)
        assert open_files() == before

    def test_sections_are_numbered_and_give_what_they_list(self, format: Format, file: Path) -> None:
        """Each listed keyword is one, has the value that is listed, and nothing else has a value."""
        sections = format.read(file).sections
        assert [section.number for section in sections] == list(range(len(sections)))
        for section in sections:
            assert section.name == section.name.upper()
            items = list(section.items())
            assert len({keyword for keyword, _ in items}) == len(items)
            for keyword, value in items:
                assert type(value) in (str, int, float, bool)
                assert section.get(keyword) == value or value != value  # noqa: PLR0124 - NaN is not itself
                assert format.keyword is not None, keyword
                assert format.keyword.fullmatch(keyword), keyword
            assert section.get("NIGHTMIL") is None

    def test_a_keyword_that_a_section_lists_is_one(self, format: Format, file: Path) -> None:
        """A format that says what is wrong with keywords finds nothing wrong with its own."""
        for section in format.read(file).sections:
            for keyword, _ in section.items():  # noqa: PERF102 - a section has no keys()
                assert not isinstance(format, KeywordFormat) or not format.wrong_with(keyword), keyword

    def test_a_format_with_keywords_has_sections(self, format: Format, file: Path) -> None:
        """And one without has none."""
        assert (format.keyword is None or isinstance(format.keyword, re.Pattern)) is True
        assert bool(format.read(file).sections) is (format.keyword is not None)

    def test_what_is_broken_is_refused_with_its_reason(
        self, format: Format, file: Path, broken: Mapping[str, bytes]
    ) -> None:
        """The message begins with the path."""
        for reason, content in broken.items():
            file.write_bytes(content)
            with pytest.raises(BadFile) as caught:
                format.read(file, digest=sha256(), verify=True)
            assert (caught.value.reason, caught.value.message.startswith(str(file))) == (reason, True)

    def test_whatever_stands_in_a_file_it_is_read_or_refused(self, format: Format, file: Path, whole: bytes) -> None:
        """Cut anywhere or garbled, it raises BadFile and nothing else; what sections cannot give is a ValueError."""
        rng = random.Random(1)
        for _ in range(self.cuts):
            garbled = bytearray(whole[: rng.randrange(len(whole) + 1)] if rng.random() < 0.5 else whole)
            if garbled and rng.random() < 0.5:
                garbled[rng.randrange(len(garbled))] ^= rng.randrange(1, 256)
            file.write_bytes(garbled)
            try:
                content = format.read(file, digest=sha256(), verify=True)
            except BadFile as error:
                assert re.fullmatch("[a-z][a-z0-9_]*", error.reason), error.reason
                assert str(file) in error.message
                continue
            for section in content.sections:
                for keyword, _ in section.items():  # noqa: PERF102 - a section has no keys()
                    try:
                        section.get(keyword)
                    except ValueError:
                        continue

    def test_what_is_not_a_file_is_refused(self, format: Format, tmp_path: Path) -> None:
        """One that is not there, a folder, and a pipe that nobody writes to, which is not waited for."""
        os.mkfifo(tmp_path / "pipe")
        for name, reason in (("nothing", "missing"), (".", "unreadable"), ("pipe", "unreadable")):
            with pytest.raises(BadFile) as caught:
                format.read(tmp_path / name)
            assert caught.value.reason == reason

    def test_threads_do_not_disturb_each_other(self, format: Format, file: Path) -> None:
        """One format reads many files at a time."""
        expected = told(format.read(file))
        with ThreadPoolExecutor(8) as pool:
            assert all(found == expected for found in pool.map(lambda _: told(format.read(file)), range(self.reads)))


class TableConformance:
    """The promises of a format whose files hold tables. Override :meth:`format` and :meth:`table`."""

    @pytest.fixture
    def format(self) -> TableFormat:
        """Give the format."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture 'format'")

    @pytest.fixture
    def table(self) -> Held:
        """Give a file, the number or name of a table in it, and the values of at least two of its columns."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture 'table'")

    @pytest.fixture
    def held(self, tmp_path: Path, table: Held) -> Path:
        """Give the file."""
        path = tmp_path / "table.bin"
        path.write_bytes(table[0])
        return path

    def test_rows_are_plain_values_in_their_order(self, format: TableFormat, table: Held, held: Path) -> None:
        """Those of the columns that are asked for, in the order and the case in which they are."""
        _, which, values = table
        for names in (list(values), list(values)[::-1]):
            rows = list(format.rows("its name", str(held), which, [name.swapcase() for name in names]))
            assert rows == list(zip(*(values[name] for name in names), strict=True))
            assert {type(value) for row in rows for value in row} <= {str, int, float, bool, type(None)}

    def test_without_a_column_empty_rows_are_counted(self, format: TableFormat, table: Held, held: Path) -> None:
        """One for each row."""
        _, which, values = table
        assert list(format.rows("its name", str(held), which, ())) == [()] * len(next(iter(values.values())))

    def test_what_is_not_there_is_refused(self, format: TableFormat, table: Held, held: Path) -> None:
        """A column, or a table; the message begins with the name that it was given."""
        _, which, values = table
        for asked, names in (
            (which, [*values, "no such column"]),
            (999, list(values)),
            ("no such table", list(values)),
        ):
            with pytest.raises(BadFile) as caught:
                list(format.rows("its name", str(held), asked, names))
            assert caught.value.message.startswith("its name")

    def test_rows_leave_nothing_open(self, format: TableFormat, table: Held, held: Path) -> None:
        """Read to their end, or not."""
        _, which, values = table
        before = open_files()
        list(format.rows("its name", str(held), which, list(values)))
        rows = iter(format.rows("its name", str(held), which, list(values)))
        next(rows)
        del rows
        gc.collect()
        assert open_files() == before


def open_files() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def told(content: Content) -> object:
    """Return all that a format says of a file, to be compared."""
    return [_told(section) for section in content.sections], content.size_bytes, content.compression, content.unsigned


def _told(section: Section) -> object:
    return section.number, section.name, [(keyword, repr(value)) for keyword, value in section.items()]
