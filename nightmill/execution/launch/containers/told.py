"""Steps whose end is told by a runtime."""

from __future__ import annotations

import resource
from dataclasses import replace

from nightmill.execution.launch.containers.said import Said
from nightmill.execution.launch.plain import Outcome, Started


class ToldByCode(Started):
    """A step whose runtime exits with its code, or with 128 and the number of the signal that ended it."""

    said: Said | None = None
    """What writes down what it says; None where its output is its own."""

    def reap(self) -> Outcome:
        """Return how the step ended, once all that it said is written down."""
        outcome = super().reap()
        if self.said is not None:
            self.said.end()
        return outcome

    def outcome(self, code: int, usage: resource.struct_rusage) -> Outcome:
        """Return how the step ended; a step that exits with such a code itself counts as ended by that signal."""
        told = super().outcome(code, usage)
        return replace(told, code=128 - code) if code > 128 else told
