"""Names that files complete when they are made: proven, as far as they are known, to become no other file's.

An open name is fixed before the first of its fields and behind the last. Two may become one only where, of both parts,
one name's is the beginning (or end) of the other's, and the field there can be written with what follows in the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from os.path import commonprefix
from typing import Final, NamedTuple

from sqlalchemy.orm import Session

from nightmill.backbone.catalogue.files import names_like
from nightmill.config.keys import keys_of
from nightmill.files.name_patterns import characters_of
from nightmill.model.base import grouped
from nightmill.model.dimensions import KeyType
from nightmill.planning.outputs import Claim, claims
from nightmill.planning.problems import Problems
from nightmill.planning.sealed import StageView

_FIELD: Final = re.compile(r"\{(\w+:?[^}]*)\}")


class _Edge(NamedTuple):
    """How an open name goes on beyond a part of it that it shares with another."""

    following: str
    """The next fixed character; empty where a field comes next."""
    characters: str
    """What that field is written with."""

    def may_be(self, other: _Edge) -> bool:
        """Say whether both names may go on in the same way."""
        for one, two in ((self, other), (other, self)):
            if one.following and (two.following or not re.fullmatch(f"[{two.characters}]", one.following)):
                return False
        return True


class _Open(NamedTuple):
    """An open name, and whose it is."""

    claim: Claim
    stage: int
    place: int
    beginning: str
    end: str
    first: str
    """What its first field is written with."""
    last: str

    def edges(self, head: int, tail: int) -> tuple[_Edge, _Edge]:
        """Return how it goes on behind so many characters of its beginning, and before so many of its end."""
        before = len(self.end) - tail
        return (
            _Edge(self.beginning[head : head + 1], self.first),
            _Edge(self.end[before - 1 : before] if before else "", self.last),
        )


class OpenNames:
    """The open names of the stages of a plan.

    Parameters
    ----------
    stages
        All that are planned so far; the last is the one to be proven.
    """

    def __init__(self, stages: Sequence[StageView]) -> None:
        self._stages = stages
        self._open = [each for number, stage in enumerate(stages) for each in _open_names(number, stage)]
        self._heads = sorted({len(each.beginning) for each in self._open})
        self._tails = sorted({len(each.end) for each in self._open})
        self._exact: dict[tuple[str, str], list[_Open]] = {}
        for each in self._open:
            self._exact.setdefault((each.beginning, each.end), []).append(each)

    def clashes(self, taken: Iterable[tuple[Claim, str]], problems: Problems) -> set[int]:
        """Report names of the last stage that may be equal to others of the plan; return the places of its jobs.

        Parameters
        ----------
        taken
            What the catalogue has, as :meth:`taken` returns it, which is reported too.
        """
        last = len(self._stages) - 1
        refused: set[int] = set()
        for claim, name in taken:
            reason = f"the catalogue has a file that has a name of output {claim.role!r} ({claim.type})"
            problems.add(f"stage {self._stages[-1].stage.name!r}", reason, name, detail=claim.name, noun="name")
        for one, other in self._pairs():
            if one.stage == last:
                self._report(one.claim, other.claim, problems)
                refused.add(one.place)
        for number, stage in enumerate(self._stages):
            for place, job in enumerate(stage.jobs):
                for claim in claims(stage.common, job.data_id):
                    holder = None if "{" in claim.name else self._named(claim.name)
                    if holder is not None and last in (number, holder.stage):
                        self._report(holder.claim, claim, problems)
                        refused.add(place if number == last else holder.place)
        return refused

    def taken(self, session: Session, *, as_of: datetime | None = None) -> dict[int, tuple[Claim, str]]:
        """Return the jobs of the last stage, by their places, for whose files the catalogue has a name already.

        Parameters
        ----------
        as_of
            For whose files it had one at a time; by default now.
        """
        own = [each for each in self._open if each.stage == len(self._stages) - 1]
        by_role = grouped((each.claim.role, each) for each in own)
        found: dict[int, tuple[Claim, str]] = {}
        for of_role in by_role.values():
            beginning = _shared([each.beginning for each in of_role])
            end = _shared([each.end[::-1] for each in of_role])[::-1]
            for name in names_like(session, beginning, end, as_of=as_of):
                if (holder := self._named(name)) is not None and holder.stage == len(self._stages) - 1:
                    found.setdefault(holder.place, (holder.claim, name))
        return found

    def _pairs(self) -> Iterator[tuple[_Open, _Open]]:
        """Yield open names with the first of those before them that may become the same.

        Whether two may depends on no more than how they go on beyond what they share; of those that are alike in this,
        one stands for all.
        """
        seen: dict[tuple[str, str], dict[tuple[_Edge, _Edge], _Open]] = {}
        for one in self._open:
            other: _Open | None = None
            for head, tail in self._parts(one.beginning, one.end):
                alike = seen.setdefault((one.beginning[:head], one.end[len(one.end) - tail :]), {})
                begins, ends = one.edges(head, tail)
                for (other_begins, other_ends), holder in alike.items():
                    if begins.may_be(other_begins) and ends.may_be(other_ends) and holder.claim.name != one.claim.name:
                        other = other or holder
                alike.setdefault((begins, ends), one)
            if other is not None:
                yield one, other

    def _parts(self, beginning: str, end: str) -> Iterator[tuple[int, int]]:
        for head in self._heads:
            for tail in self._tails:
                if head <= len(beginning) and tail <= len(end):
                    yield head, tail

    def _named(self, name: str) -> _Open | None:
        """Return the first open name that a name may be the whole of."""
        for head, tail in self._parts(name, name):
            for each in self._exact.get((name[:head], name[len(name) - tail :]), ()):
                if _expression(each, self._stages[each.stage]).fullmatch(name):
                    return each
        return None

    def _report(self, one: Claim, other: Claim, problems: Problems) -> None:
        stage = self._stages[-1]
        kind = f"the names of output {one.role!r} ({one.type}), completed by what its files tell"
        reason = (
            f"{kind}, may become those of {other.role!r} ({other.type}); let their templates differ, and the units be"
            " told apart, before the first or behind the last field that is told"
        )
        problems.add(f"stage {stage.stage.name!r}", reason, one.name, detail=other.name, noun="name")


def _open_names(number: int, stage: StageView) -> Iterator[_Open]:
    kinds = keys_of(stage.common.file_types)
    if not any(output.tells for step in stage.stage.steps for output in step.outputs.values()):
        return
    for place, job in enumerate(stage.jobs):
        for claim in claims(stage.common, job.data_id):
            fields = _FIELD.findall(claim.name)
            if fields:
                beginning, end = claim.name.partition("{")[0], claim.name.rpartition("}")[2]
                first, last = (_characters(field, kinds) for field in (fields[0], fields[-1]))
                yield _Open(claim, number, place, beginning, end, first, last)


def _shared(texts: Sequence[str]) -> str:
    return commonprefix(texts)  # noqa: RUF071 - of names, which are not paths


def _characters(field: str, kinds: Mapping[str, KeyType]) -> str:
    name, _, spec = field.partition(":")
    return characters_of(kinds.get(name, "str"), spec)


def _expression(open_: _Open, stage: StageView) -> re.Pattern[str]:
    kinds = keys_of(stage.common.file_types)
    literals = _FIELD.split(open_.claim.name)
    parts: Iterable[str] = (
        f"[{_characters(text, kinds)}]+" if place % 2 else re.escape(text) for place, text in enumerate(literals)
    )
    return re.compile("".join(parts))
