"""The check of what stands in a header."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Self

from pydantic import Field, model_validator

from nightmill.errors import BadFile
from nightmill.files.checks.limits import Limits
from nightmill.model.base import Frozen
from nightmill.model.content import Candidate, Section, StepInput

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {"str": (str,), "int": (int,), "float": (float, int), "bool": (bool,)}


class Keyword(Limits):
    """What a keyword must be: there, and what else is given here."""

    type: str = Field(default="", pattern="^(str|int|float|bool)?$")
    """Of its value: ``str``, ``int``, ``float`` or ``bool``; empty for any."""

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        return self


class Keywords(Frozen):
    """Options of the check."""

    hdu: int | str = 0
    """Number or EXTNAME of the HDU; no other is looked at."""
    keywords: tuple[str, ...] | Mapping[str, Keyword] = Field(min_length=1)
    """Those that must have a value; as a mapping, with what it must be."""


class Keys:
    """``keys``: the header of an HDU has keywords, with values of a type and within limits."""

    Options: Final = Keywords
    formats: Final = ()
    compares: Final = False

    def __init__(self, options: Keywords) -> None:
        self.hdu = options.hdu
        wanted = options.keywords
        self.keywords = dict(wanted) if isinstance(wanted, Mapping) else dict.fromkeys(wanted, Keyword())

    def look(self, file: Candidate, inputs: Sequence[StepInput]) -> None:
        """Refuse a file without such an HDU (``other_hdus``), or with keywords that are not so (``bad_keyword``)."""
        section = section_of(file.content.sections, self.hdu)
        if section is None:
            there = ", ".join(each.name or str(each.number) for each in file.content.sections) or "none"
            raise BadFile(
                f"{file.name} has not got HDU {self.hdu!r} (there is {there})",
                reason="other_hdus",
                remedy="look at the file, or change check 'keys' of its type",
            )
        if wrong := [f"{name} {why}" for name, each in self.keywords.items() if (why := _wrong(section, name, each))]:
            raise BadFile(
                f"{file.name}: in HDU {self.hdu!r}, {', and '.join(wrong)}",
                reason="bad_keyword",
                remedy="let the step write it, or change check 'keys' of its type",
            )


def section_of(sections: Sequence[Section], hdu: int | str) -> Section | None:
    """Return a section by its number or name; None where there is none."""
    wanted = hdu.upper() if isinstance(hdu, str) else ""
    return next((each for each in sections if each.number == hdu or (wanted and each.name == wanted)), None)


def _wrong(section: Section, name: str, wanted: Keyword) -> str:
    try:
        value = section.get(name)
    except ValueError as error:
        return f"is not a value: {error}"
    if value is None or value == "":
        return "has no value"
    if wanted.type and (
        isinstance(value, bool) != (wanted.type == "bool") or not isinstance(value, _TYPES[wanted.type])
    ):
        return f"is {value!r}, not of type {wanted.type}"
    why = wanted.wrong_with(value)
    return f"is {value}, {why}" if why else ""
