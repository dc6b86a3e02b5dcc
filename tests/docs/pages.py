"""Markdown pages of the documentation, as far as tests read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.support.requirements import ROOT

DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"


@dataclass(frozen=True)
class Fence:
    """A fenced block.

    Parameters
    ----------
    info
        What stands behind the opening fence: a language, and what the tests are to do with it.
    line
        Of the opening fence, from 1.
    """

    info: str
    text: str
    line: int


@dataclass(frozen=True)
class Page:
    """One Markdown file."""

    path: Path

    @property
    def name(self) -> str:
        """Its path inside the project."""
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def text(self) -> str:
        """All of it."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def fences(self) -> tuple[Fence, ...]:
        """Its fenced blocks, in their order."""
        blocks = re.finditer(r"(?ms)^```([^\n]*)\n(.*?)^```$", self.text)
        return tuple(Fence(block[1].strip(), block[2], self.text.count("\n", 0, block.start()) + 1) for block in blocks)

    @cached_property
    def prose(self) -> str:
        """Its text without fenced blocks."""
        return re.sub(r"(?ms)^```.*?^```$", "", self.text)

    @cached_property
    def headings(self) -> tuple[str, ...]:
        """Its headings, as they are written behind the number signs."""
        return tuple(re.findall(r"(?m)^#+ (.+)$", self.prose))

    @cached_property
    def anchors(self) -> frozenset[str]:
        """What links may name behind the number sign."""
        plain = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in self.headings]
        return frozenset(plain)

    def section(self, heading: str) -> str:
        """Return the text below a heading, to the next of its level or above."""
        match = re.search(rf"(?ms)^(#+) {re.escape(heading)}$\n(.*?)(?=^\1 |^#{{1,2}} |\Z)", self.prose)
        assert match, f"{self.name} has no section {heading!r}"
        return match[2]

    def rows(self, heading: str) -> list[list[str]]:
        """Return the cells of the rows of the first table below a heading, its head left out."""
        table = re.search(r"(?m)(^\|.*\n)+", self.section(heading))
        assert table, f"{self.name}: section {heading!r} has no table"
        lines = table[0].splitlines()[2:]
        return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]

    def named(self, heading: str) -> list[str]:
        """Return what the first column of the table below a heading names, each as ``code``."""
        return [name for row in self.rows(heading) for name in re.findall(r"`([^`]+)`", row[0])]


def pages(folder: Path = DOCS) -> Iterator[Page]:
    """Yield the pages below a folder of the documentation, in the order of their names."""
    for path in sorted(folder.rglob("*.md")):
        yield Page(path)


def all_pages() -> list[Page]:
    """Return every page that users read."""
    return [Page(ROOT / "README.md"), Page(ROOT / "CONTRIBUTING.md"), *pages()]
