"""The check of which HDUs a file has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, Self

from pydantic import Field, model_validator

from nightmill.errors import BadFile
from nightmill.model.base import Frozen
from nightmill.model.content import Candidate, StepInput


class Layout(Frozen):
    """Options of the check; names or a number are given."""

    names: tuple[str, ...] = ()
    """EXTNAMEs of HDUs that it must have, in any order; one that stands here twice must be there twice."""
    others: bool = False
    """Whether it may have others beside these and the primary one."""
    count: int | None = Field(default=None, ge=1)
    """How many it must have, the primary one included."""

    @model_validator(mode="after")
    def _wants_something(self) -> Self:
        if not self.names and self.count is None:
            raise ValueError("one with names or a count")
        return self


class Hdus:
    """``hdus``: a file has these HDUs, or so many."""

    Options: Final = Layout
    formats: Final = ("fits",)
    compares: Final = False

    def __init__(self, options: Layout) -> None:
        self.count = options.count
        self.names = Counter(name.upper() for name in options.names)
        self.others = options.others

    def look(self, file: Candidate, inputs: Sequence[StepInput]) -> None:
        """Refuse a file with ``other_hdus``."""
        sections = file.content.sections
        wrong = []
        if self.count is not None and len(sections) != self.count:
            wrong.append(f"has {len(sections)} HDUs, not {self.count}")
        if self.names:
            there = Counter(each.name for each in sections)
            lacking, more = self.names - there, Counter(each.name for each in sections[1:]) - self.names
            wrong += [f"lacks HDU {', '.join(lacking.elements())}"] if lacking else []
            if more and not self.others:
                wrong.append(f"has HDU {', '.join(name or 'without a name' for name in more.elements())} beside them")
        if wrong:
            raise BadFile(
                f"{file.name} {' and '.join(wrong)}",
                reason="other_hdus",
                remedy="look at what wrote it, or change check 'hdus' of its type",
            )
