"""What a step prints, from its first byte to what is told of it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable

from nightmill.execution.context import JobContext
from nightmill.execution.evidence import LOG_BYTES, evidence_in, readable
from nightmill.execution.logs.cut import HURRIED_SECONDS, StepLog
from nightmill.execution.scratch import Scratch
from nightmill.model.error_rule import compiled
from nightmill.model.order import JobOrder

_log = logging.getLogger("nightmill")


class Printed:
    """What a step prints: cut where it is huge, shown to who follows, sent on line by line.

    Parameters
    ----------
    heading
        What stands in the log before it.
    """

    def __init__(self, order: JobOrder, step: str, scratch: Scratch, context: JobContext, heading: str) -> None:
        self._scratch, self._step = scratch, step
        self.attempt = order.attempt
        self.log = scratch.open_log()
        self._lines = context.lines_of(order.attempt)
        if self._lines is not None:  # what was told since the step before
            self._lines.read(self.log, "", last=True)
        told = f"{line_end(self.log)}{heading}".encode()
        os.write(self.log, told)
        self.start = os.lseek(self.log, 0, os.SEEK_END)
        self._of_step = StepLog(self.log, step, self.start, context.logs.max_bytes, told)

    def look(self) -> float | None:
        """Look at it while the step runs; return in how many seconds to look again, where it cannot wait longer."""
        if self._lines is not None:
            self._lines.read(self.log, self._step, self._of_step.gap)
        is_hurried = self._of_step.look()
        self._scratch.show_log()
        return HURRIED_SECONDS if is_hurried else None

    def end(self) -> None:
        """Look at it once more: the step has ended. What became of it is told in the log."""
        of_step = self._of_step
        of_step.end()
        self.start = of_step.start
        if of_step.gap is not None:
            self._scratch.printed.gaps.append(of_step.gap)
        if of_step.lost_bytes:
            if not self.start:
                self._scratch.printed.gaps = [gap for gap in (of_step.gap,) if gap is not None]
            self.tell(f"== {self._step} cut the log off: {of_step.lost_bytes} bytes of it at least are lost")
        if of_step.trouble:
            _log.warning(
                "%s printed so much that its log is cut, and it took room until step %r ended: %s",
                self.attempt,
                self._step,
                of_step.trouble,
            )
        if self._lines is not None:
            self._lines.read(self.log, self._step, of_step.gap, last=True)
        self._scratch.show_log(last=True)

    def tell(self, line: str) -> None:
        """Add a line of nightmill's own to the log."""
        os.write(self.log, f"{line_end(self.log)}{line}\n".encode())

    @property
    def last_text(self) -> str:
        """What rules see of it."""
        return readable(self._of_step.kept(LOG_BYTES)[1].decode(errors="replace"))

    def evidence(self, patterns: Iterable[str]) -> str:
        """Return what tells best why the step failed, as :func:`nightmill.execution.evidence.evidence_in` finds it.

        Parameters
        ----------
        patterns
            Of what the site knows as errors.
        """
        head, tail = (part.decode(errors="replace") for part in self._of_step.kept(LOG_BYTES))
        return evidence_in(head, tail, [compiled(pattern) for pattern in patterns])


def line_end(log: int) -> str:
    """Return what a log lacks for another line to begin."""
    size = os.fstat(log).st_size
    return "\n" if size and os.pread(log, 1, size - 1) != b"\n" else ""
