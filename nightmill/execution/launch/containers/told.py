"""Steps whose end is told by a runtime."""

from __future__ import annotations

import resource
from dataclasses import replace

from nightmill.execution.launch.plain import Outcome, Started


class ToldByCode(Started):
    """A step whose runtime exits with its code, or with 128 and the number of the signal that ended it."""

    def outcome(self, code: int, usage: resource.struct_rusage) -> Outcome:
        """Return how the step ended; a step that exits with such a code itself counts as ended by that signal."""
        told = super().outcome(code, usage)
        return replace(told, code=128 - code) if code > 128 else told
