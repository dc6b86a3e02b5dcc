"""What becomes known of a run of a step: what it was given, what it opened, and what it told."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Final

from nightmill.errors import JobFailed, guess
from nightmill.execution.audit.traced import Traced
from nightmill.execution.audit.verdict import as_audited
from nightmill.execution.descriptors import names_in
from nightmill.execution.differences import Produced, differences, in_words
from nightmill.execution.evidence import on_one_line
from nightmill.execution.index import index_of
from nightmill.execution.scratch import Scratch
from nightmill.execution.sidecar.lines import failed
from nightmill.execution.sidecar.outputs import Told
from nightmill.execution.sidecar.reading import Sidecar, read_sidecar
from nightmill.execution.witness import Witness
from nightmill.model.fate import Fate
from nightmill.model.index import IndexOutput
from nightmill.model.journal import MadeFile
from nightmill.model.layout import WORK
from nightmill.model.observed import Confined, Consequence, DependsOn, Difference, Eliminated, Observation
from nightmill.model.order import JobOrder, OrderStep

_FIELD: Final = re.compile(r"\{[^{}]*\}")
_LISTED: Final = 10
"""How many of its inputs a message names."""


class Observer:
    """Follows one run of a step, from before its start to after its gate."""

    def __init__(self, order: JobOrder, step: OrderStep, scratch: Scratch) -> None:
        self._order = order
        self._step = step
        self._scratch = scratch
        self.scratch = scratch.path
        """Where it runs."""
        self.index = index_of(order, step, scratch.kept, scratch.told)
        """What the step is told of its files."""
        self.software = ""
        """Digest of its stack, as far as that is known before it begins."""
        self._opened: frozenset[str] | None = None
        self._traced: Traced | None = None
        self._sidecar = Sidecar()
        self._depends: tuple[DependsOn, ...] = ()
        self._produced: Produced | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the files that are there for the steps of the job, as long as this one runs."""
        witness = Witness(dict(self._watched()))
        try:
            yield
        finally:
            self._opened = witness.end()

    def trace(self, traced: Traced | None) -> None:
        """Take the word of a trace, where the step has one, for what it opened."""
        self._traced = traced
        if traced is not None:
            self._opened = frozenset([name for name, path in self._watched() if path in traced.opened])

    @property
    def libraries(self) -> tuple[str, ...]:
        """Programs and shared objects of the host that a trace saw it run and load."""
        return self._traced.libraries if self._traced is not None else ()

    def _watched(self) -> Iterator[tuple[str, str]]:
        scratch, untyped = (
            self._scratch,
            {each.role for step in self._order.steps for each in step.outputs if not each.type},
        )
        for file in self._order.inputs:
            yield file.name, f"{scratch.inputs}/{file.staged_name}"
        for role, names in scratch.kept.items():
            for name in names if role not in untyped else ():
                yield name, f"{scratch.outputs}/{name}"

    def failing(self, failure: JobFailed) -> JobFailed:
        """Return how a step failed that exited with an error: for what was not staged for it, where it says so.

        What a step told that failed is taken as far as it can be read.
        """
        try:
            self._sidecar = read_sidecar(self._order, self._step, self.index, self._scratch)
        except JobFailed:
            return failure
        if failure.fate != Fate.STEP_FAILED:
            return failure
        return self._unstaged(f": {failure.message.partition(': ')[2]}") or failure

    def read_sidecar(self) -> Mapping[str, Told]:
        """Read what the step told, and return that of the files that it made.

        Raises
        ------
        JobFailed
            Where it is wrong, or tells that the step asked for what was not staged for it.
        """
        self._sidecar = read_sidecar(self._order, self._step, self.index, self._scratch)
        if (failure := self._unstaged()) is not None:
            raise failure
        return self._sidecar.files

    def _unstaged(self, why: str = "") -> JobFailed | None:
        """Return the failure of a step that asked for what was not staged for it; nothing is fetched."""
        for line, wish in self._sidecar.uses.unstaged.items():
            names = [f"{each.roles[0]} {each.name}" for each in self.index.inputs]
            more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
            near = guess(wish.role, [role for each in self.index.inputs for role in each.roles])
            return JobFailed(
                f"step {self._step.name!r} asked for {wish}, which was not staged for it{near} (line {line} of its"
                f" sidecar; it has {', '.join(names[:_LISTED]) or 'no inputs'}{more}){why}",
                fate=Fate.UNSTAGED_INPUT,
                step=self._step.name,
                remedy="declare it as an input of the step: nothing is fetched while a job runs",
            )
        return None

    def made(self, files: Sequence[MadeFile]) -> None:
        """Take note of what the step made, once it has passed the gate.

        Raises
        ------
        JobFailed
            Where the step told of an output that it did not make.
        """
        with self._scratch.opened(WORK) as work:
            extra = names_in(work)
        roles = [output.role for output in self._step.outputs if self._scratch.kept.get(output.role)]
        self._produced = Produced(roles, extra)
        names = {own: file.name for file in files for own in (file.name, file.produced_name) if own}
        scratch_files = {
            name for output in self._step.outputs if not output.type for name in self._scratch.kept.get(output.role, ())
        }
        depends: dict[str, dict[str, None]] = {}
        for each in self._sidecar.uses.depends:
            own = on_one_line(each.output.rpartition("/")[2])
            if own in names:
                depends.setdefault(names[own], {}).update(dict.fromkeys(each.inputs))
            elif own not in scratch_files:
                why = f"is wrong in line {each.line}: {own[:60]!r} is not a file that it made{guess(own, list(names))}"
                raise failed(self._step, why)
        self._depends = tuple([DependsOn(output=name, inputs=tuple(inputs)) for name, inputs in depends.items()])

    def failed(self, failure: JobFailed) -> None:
        """Take note of what a step made that lacks an output."""
        if failure.fate == Fate.MISSING_OUTPUT and self._produced is None:
            with self._scratch.opened(WORK) as work:
                there = names_in(work)
            named = {each.role: [name for name in there if _may_be(each, name)] for each in self.index.outputs}
            known = {name for names in named.values() for name in names}
            extra = [name for name in there if name not in known]
            self._produced = Produced([role for role, names in named.items() if names], extra)

    def observation(self, confined: Confined, reached: tuple[str, ...]) -> Observation:
        """Return what is known of the step, by the names that files have on record.

        Parameters
        ----------
        reached
            Paths outside of what it was given that it tried to reach.
        """
        uses = self._sidecar.uses
        typed = {each.name for each in self.index.inputs if each.type}
        observation = Observation(
            confined=as_audited(self._order, confined, self._traced),
            witness="" if self._opened is None else "inotify" if self._traced is None else "strace",
            opened=tuple([each.name for each in self.index.inputs if self._opened and each.name in self._opened]),
            reached=reached,
            told=uses.told,
            used=tuple([name for name in uses.used if name in typed]),
            eliminated=tuple(
                [Eliminated(name=name, reason=each.reason) for name, each in uses.eliminated.items() if name in typed]
            ),
            depends=self._depends,
            differences=differences(self._step, self.index, self._opened, uses, self._produced),
        )
        return observation.renamed({each.name: each.recorded for each in self._order.taken})

    def notes(self, found: Sequence[Difference]) -> str:
        """Return what the log of the job is told: what the step asked its index for, and what it is warned of."""
        lines = [f"== {self._step.name} asked: {each}\n" for each in self._sidecar.uses.asked]
        warned = [each for each in found if each.consequence is Consequence.WARNED]
        lines += [f"== warning: step {self._step.name!r} {in_words(each)}\n" for each in warned]
        return "".join(lines)


def _may_be(output: IndexOutput, name: str) -> bool:
    """Say whether a file has a name of an output, as far as a name tells it."""
    return fnmatchcase(name, _FIELD.sub("*", output.produces)) if output.produces else name == output.name
