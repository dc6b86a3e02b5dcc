"""The software stack of a step: what it ran with, section by section, known by its digest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cached_property
from hashlib import sha256
from typing import Any, Final, Literal

from pydantic import Field

from nightmill.model.base import Frozen, canonical_json

STACK_VERSION: Final = 2
_CONTAINER: Final = ("image", "container runtime", "image as it lies here")
_IN_IMAGE: Final = "in the image at "
_NOT_NEW: Final = ("bundle", "libraries")

Section = Mapping[str, str]
"""Names to what is known of them."""


class Stack(Frozen):
    """What a step ran with.

    Stacks of journals of before are flat: :meth:`read` gives their parts the sections that they have now.
    """

    version: Literal[2] = STACK_VERSION
    bundle: Section = Field(default_factory=dict)
    """``digest`` of the pipeline's folder."""
    interpreter: Section = Field(default_factory=dict)
    """The Python that the step is run by: ``path``, ``version``, ``implementation``, ``build``, ``sha256``."""
    distributions: Section = Field(default_factory=dict)
    """Python packages to their versions, with a commit or a digest of their files where they came from no index."""
    programs: Section = Field(default_factory=dict)
    """Programs to the versions that they tell, and the paths of programs to their SHA-256."""
    libraries: Section = Field(default_factory=dict)
    """Paths of shared libraries that were really loaded to their SHA-256, where a trace tells them."""
    container: Section = Field(default_factory=dict)
    """The image, by its digest, and what ran it."""
    modules: Section = Field(default_factory=dict)
    """Environment modules that were loaded, to their files."""
    os: Section = Field(default_factory=dict)
    kernel: Section = Field(default_factory=dict)
    cpu: Section = Field(default_factory=dict)
    """The model, and a digest of what it is able to do."""

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Stack:
        """Read what is on record of a stack, flat or in sections."""
        if isinstance(content.get("version"), int):
            return cls.model_validate(content)
        sections: dict[str, dict[str, str]] = {}
        for name, value in content.items():
            if name == "kernel":
                sections.setdefault("kernel", {})["release"] = str(value)
            elif name == "python":
                sections.setdefault("interpreter", {})["version"] = str(value)
            else:
                of_container = name in _CONTAINER or name.startswith(_IN_IMAGE)
                sections.setdefault("container" if of_container else "distributions", {})[name] = str(value)
        return cls.model_validate(sections)

    @property
    def sections(self) -> Mapping[str, Section]:
        """Its sections by name, those with nothing in them left out."""
        return {name: section for name in SECTIONS if (section := getattr(self, name))}

    @property
    def content(self) -> dict[str, Any]:
        """What digests are made of, and what is kept: plain JSON."""
        return {"version": self.version, **{name: dict(section) for name, section in self.sections.items()}}

    @cached_property
    def sha256(self) -> str:
        """Its digest."""
        return _digest(self.content)

    @cached_property
    def bare_sha256(self) -> str:
        """Its digest as far as it makes software new, which is judged before a step begins.

        A pipeline that was edited is not an update, and libraries are known once they were loaded.
        """
        return _digest({name: value for name, value in self.content.items() if name not in _NOT_NEW})


SECTIONS: Final = tuple(name for name in Stack.model_fields if name != "version")


def _digest(content: Mapping[str, Any]) -> str:
    return sha256(canonical_json(content).encode()).hexdigest()


class Acceptance(StrEnum):
    """By what a stack is known to a site that looks at new software."""

    USED = "used"
    """Steps had run with it before the site began to look."""
    ACCEPTED = "accepted"
    """Somebody accepted it."""
    REGRESSION = "regression"
    """A reference attempt was carried out again with it."""


class Change(Frozen):
    """In what one stack differs from another."""

    section: str
    name: str
    before: str | None = None
    """None where the earlier does not have it."""
    after: str | None = None
    """None where the later does not have it."""

    def __str__(self) -> str:
        """Say it in words."""
        if self.before is None:
            return f"{self.section} {self.name}: added, {self.after}"
        if self.after is None:
            return f"{self.section} {self.name}: gone, was {self.before}"
        return f"{self.section} {self.name}: {self.before} → {self.after}"


def changes(before: Stack, after: Stack) -> Iterator[Change]:
    """Yield in what a stack differs from an earlier one, section by section."""
    for section in SECTIONS:
        one, other = getattr(before, section), getattr(after, section)
        for name in sorted(one.keys() | other.keys()):
            if one.get(name) != other.get(name):
                yield Change(section=section, name=name, before=one.get(name), after=other.get(name))
