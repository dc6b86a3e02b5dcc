"""What a step in an image says, which comes by a pipe: of a file that it had open, it could cut off what was there."""

from __future__ import annotations

import os
from threading import Thread
from typing import Final

from nightmill.execution.confine.spawner_process import pump

_PATIENCE_SECONDS: Final = 10.0


class Said:
    """Writes down what comes by a pipe until nobody has its other end any more.

    Parameters
    ----------
    output
        Descriptor of where it is written down.
    """

    def __init__(self, output: int) -> None:
        self._reading, self.writing = os.pipe()
        self._output = os.dup(output)
        self._writer = Thread(target=self._write, name="nightmill-said", daemon=True)
        self._writer.start()

    def begun(self) -> None:
        """Leave the other end to the step."""
        os.close(self.writing)

    def end(self) -> None:
        """Wait until all is written down, once the step has ended."""
        self._writer.join(_PATIENCE_SECONDS)

    def _write(self) -> None:
        while pump(self._reading, self._output):
            pass
        os.close(self._reading)
        os.close(self._output)
