"""What the steps of a worker are confined by."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, Self

from nightmill.errors import RequestRefused
from nightmill.execution.audit.auditor import auditing, must_audit
from nightmill.execution.confine.groups import Group, made_in
from nightmill.execution.confine.inside import rules_inside
from nightmill.execution.confine.outside import Reached, reached
from nightmill.execution.confine.places import is_in
from nightmill.execution.confine.rules import Rules, rules_of, rules_of_check, software_of
from nightmill.execution.confine.shim import ShimRules
from nightmill.execution.confine.spawner import Spawners
from nightmill.execution.faults import refused
from nightmill.execution.launch import plain
from nightmill.execution.launch.plain import Launch, Process
from nightmill.execution.scratch import Scratch
from nightmill.model.confinement import NodeConfinement, Use
from nightmill.model.node import NodeProfile
from nightmill.model.observed import UNCONFINED, Confined, Level
from nightmill.model.order import JobOrder, OrderStep

Way = Callable[[Launch], Process]
"""How a step is started."""

_OFF = NodeConfinement(use=Use.OFF)
_ELSEWHERE: Final = "memory of a step in an image is not limited: its runtime puts it into a control group of its own"


class Confiner:
    """Confines steps as a site says; safe for use by several threads.

    Parameters
    ----------
    closed
        What no step may reach, beside the stores of its order and what the site knows.
    """

    def __init__(self, confinement: NodeConfinement = _OFF, closed: Collection[Path] = ()) -> None:
        self._confinement = confinement
        self._closed = frozenset([*confinement.closed, *closed])
        limits = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_NPROC, confinement.processes)]
        if confinement.open_files is not None:
            limits.append((resource.RLIMIT_NOFILE, confinement.open_files))
        self.limits = tuple(limits)
        """Of each step: resources of :func:`resource.setrlimit`, with the most that it may have."""
        self.grouped = partial(made_in, confinement.cgroup, confinement.processes)
        """Makes a control group for a step at a time."""
        self._spawners = Spawners(self.limits, self.grouped)

    @classmethod
    def of(cls, profile: NodeProfile) -> Self:
        """Return what confines the steps of a node."""
        closed = (profile.scratch, profile.spool, profile.cache, profile.secrets, profile.signing_key)
        return cls(profile.confinement, [path for path in closed if path is not None])

    def rules(self, order: JobOrder, step: OrderStep, scratch: Scratch, inside: Confined | None = None) -> Rules | None:
        """Return what a step may reach, whose files are where it finds them; None where it is not confined.

        Parameters
        ----------
        inside
            How it is confined in its image, where it has one.

        Raises
        ------
        JobFailed
            Where this host cannot confine steps as the site demands, or not audit them as their order does.
        OSError
            Where the scratch cannot be written.
        """
        is_audited = order.level == "audit" and inside is None
        if self._confinement.use is Use.OFF and not is_audited:
            return None
        must_audit(order, step)
        try:
            confined = self.confined(inside)
        except RequestRefused as error:
            raise refused(step.name, error) from error
        if confined.level is Level.NONE and not is_audited:
            return None
        scratch.make_sidecar()
        return rules_of(order, step, scratch, self._confinement, self._closed)

    def way(self, order: JobOrder, step: OrderStep, scratch: Scratch, rules: Rules | None) -> Way:
        """Return how a step with these rules is started, outside of any image."""
        if rules is None:
            return plain.start if self._confinement.use is Use.OFF else partial(_unconfined, confined=self.confined())
        if order.level != "audit":
            return partial(self._spawners.start, rules=rules)
        if (confined := self.confined()).level is Level.NONE:
            return auditing(lambda launch, _rules: _unconfined(launch, confined), rules, step, scratch, closes=False)
        return auditing(self._spawners.start, rules, step, scratch)

    def way_to_look(self, order: JobOrder, step: OrderStep, scratch: Scratch, folder: Path, file: str) -> Way:
        """Return how a program is started on this host that looks at a file that a step made.

        Parameters
        ----------
        folder
            Its own, the only one that it may write into.
        file
            Where the file is.

        Raises
        ------
        RequestRefused
            Where this host cannot confine it as the site demands.
        """
        if self._confinement.use is Use.OFF:
            return plain.start
        if (confined := self.confined()).level is Level.NONE:
            return partial(_unconfined, confined=confined)
        of_step = rules_of(order, step, scratch, self._confinement, self._closed)
        return partial(self._spawners.start, rules=rules_of_check(of_step, str(folder), file))

    def in_group(self, start: Way, step: OrderStep, rules: Rules | None, *, is_parent: bool) -> Way:
        """Return how a step in an image is started, in a control group of its own where the site has some.

        Parameters
        ----------
        rules
            What the step may reach; None where it is not confined.
        is_parent
            Whether what starts it is the parent of its processes.
        """
        if rules is None or self._confinement.cgroup is None:
            return start
        return partial(self._start_in_group, start, step, rules, is_parent)

    def _start_in_group(self, start: Way, step: OrderStep, rules: Rules, is_parent: bool, launch: Launch) -> Process:
        group = self.grouped() if is_parent else Group(lacking=(_ELSEWHERE,))
        try:
            self._must_hold(group.lacking)
            group.begin(rules.memory_bytes)
            process = start(replace(launch, group=group))
        except BaseException as error:
            group.remove()
            if isinstance(error, RequestRefused):
                raise refused(step.name, error) from error
            raise
        before = process.confined
        process.group = group
        process.confined = before.model_copy(
            update={"by": (*before.by, *group.by), "lacking": (*before.lacking, *group.lacking)}
        )
        return process

    def inside(self, rules: Rules | None) -> ShimRules | None:
        """Return by what a step with these rules confines itself in an image."""
        return None if rules is None else rules_inside(rules, self.limits)

    def reached(self, order: JobOrder, step: OrderStep, scratch: Scratch, confined: Confined, said: str) -> Reached:
        """Return what a step that failed had reached for in vain.

        Parameters
        ----------
        confined
            How it was confined.
        said
            The last that it said.
        """
        is_confined = confined.level is not Level.NONE and not step.image
        places = software_of(order, self._confinement, self._closed) if is_confined else None
        return reached(order, step, scratch, said, places)

    def closed_program(self, order: JobOrder, program: str, path: str | None) -> str:
        """Return where a program lies that no step may run; empty where that is not so, or it is not found.

        Parameters
        ----------
        path
            The PATH of its step.
        """
        found = shutil.which(program, path=path) if program.startswith("/") or "/" not in program else None
        if found is None or self._confinement.use is Use.OFF:
            return ""
        places = software_of(order, self._confinement, self._closed)
        return "" if is_in(os.path.realpath(found), places) else os.path.realpath(found)

    def confined(self, inside: Confined | None = None) -> Confined:
        """Return how steps are confined on this host, or in an image.

        Raises
        ------
        RequestRefused
            Where the site demands more.
        """
        if self._confinement.use is Use.OFF:
            return UNCONFINED
        confined = self._spawners.confined() if inside is None else inside
        self._must_hold(confined.lacking)
        return confined

    def _must_hold(self, lacking: Sequence[str]) -> None:
        """Refuse what the host does not hold, where the site demands that."""
        if self._confinement.use is Use.DEMAND and lacking:
            raise RequestRefused(
                f"this host cannot confine steps as its site demands: {'; '.join(lacking)}",
                remedy="use a host that can (Linux 6.12, where users may make namespaces), or write"
                " confinement: {use: try} into nightmill.yaml",
            )

    def close(self) -> None:
        """End what starts steps."""
        self._spawners.close()


def tried(confinement: NodeConfinement) -> Confined:
    """Return how steps are confined on this host.

    Raises
    ------
    RequestRefused
        Where the site demands more.
    """
    confiner = Confiner(confinement)
    try:
        return confiner.confined()
    finally:
        confiner.close()


def _unconfined(launch: Launch, confined: Confined) -> Process:
    """Start a step on a host that cannot confine it."""
    process = plain.start(launch)
    process.confined = confined
    return process
