"""What a step in an image may reach: the image, and of the scratch of its job what a step on the host would reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nightmill.execution.confine import landlock, seccomp
from nightmill.execution.confine.landlock import CHANGE, READ_DIR, RUN, USE_DEVICE
from nightmill.execution.confine.rules import Rules
from nightmill.execution.confine.shim import PathRule, ShimRules

_IMAGE: Final = (("/", RUN), ("/dev", USE_DEVICE | READ_DIR), ("/dev/shm", CHANGE), ("/tmp", CHANGE))  # noqa: S108
"""What a container has of its own, all of it but the scratch: nothing of the host is in it that it is not shown."""


def rules_inside(rules: Rules, limits: Sequence[tuple[int, int]]) -> ShimRules:
    """Return by what the shim confines itself, from the rules of its step.

    Names can be listed everywhere. A ``/tmp`` or ``/dev/shm`` that has the scratch in it cannot be written to.
    """
    files, ports, scopes = landlock.handled(landlock.abi())
    image = [PathRule(path, rights & files, optional=True, apart=True) for path, rights in _IMAGE]
    own = [PathRule(path, rights & files, optional=True) for path, rights in rules.own]
    ports = ports if rules.ports is not None else 0
    return ShimRules(
        handled=(files, ports, scopes),
        paths=[PathRule("/", READ_DIR & files), *image, *own] if files else (),
        ports=[(landlock.CONNECT_TCP, port) for port in (ports and rules.ports) or ()],
        limits=limits,
        program=rules.filter,
    )


def held_inside() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what holds a step by such rules, and what is not held, a sentence each."""
    version, unknown = landlock.abi(), seccomp.lacking()
    by = (*([f"landlock {version}"] if version else ()), *(() if unknown else ("seccomp",)))
    return by, (*landlock.lacking(version), *unknown)
