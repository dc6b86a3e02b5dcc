"""The log of an attempt: one open file, which stays the log whatever a step does to its name."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryFile

from nightmill.execution.descriptors import path_of
from nightmill.execution.live import LiveLog
from nightmill.execution.logs.cut import Gap, compact
from nightmill.model.layout import LOG


class AttemptLog:
    """The log in the scratch of an attempt, from its first line on.

    Parameters
    ----------
    scratch
        The folder.
    spool
        Where the log is shown to who asks for it; by default nowhere.
    """

    def __init__(self, scratch: Path, spool: Path | None) -> None:
        self._scratch = scratch
        self._live = LiveLog(spool, scratch.name) if spool is not None else None
        self.descriptor: int | None = None
        self.gaps: list[Gap] = []
        """What is left out of it of what steps have printed."""

    @property
    def path(self) -> str | None:
        """Where it can be read as long as it is open, or None where nothing was written."""
        return None if self.descriptor is None else path_of(self.descriptor)

    def begin(self, folder: int) -> int:
        """Make the file, in the open folder of its scratch."""
        self.descriptor = os.open(LOG, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=folder)
        return self.descriptor

    def show(self, *, last: bool = False) -> None:
        """Show it to who asks for it.

        Parameters
        ----------
        last
            Whether nothing is written any more for a while: who follows is to see all of it.
        """
        if self._live is not None and self.descriptor is not None:
            self._live.look(self.descriptor)
            if last:
                self._live.catch_up(self.descriptor)

    def close_gaps(self) -> None:
        """Have another file without what is left out be the log: no step runs any more.

        Raises
        ------
        OSError
            Where that cannot be written.
        """
        if self.descriptor is not None and self.gaps:
            with TemporaryFile(dir=self._scratch.parent) as file:  # where no step puts anything
                whole, self.descriptor = self.descriptor, os.dup(file.fileno())
            try:
                compact(whole, self.gaps, self.descriptor)
            finally:
                os.close(whole)

    def end(self) -> None:
        """Close it."""
        if self.descriptor is not None:
            os.close(self.descriptor)
        if self._live is not None:
            self._live.end()
