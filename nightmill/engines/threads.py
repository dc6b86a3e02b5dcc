"""The default engine: threads of this process, each of which waits for the processes of its steps."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass
from itertools import islice

from nightmill.model.order import JobOrder
from nightmill.model.report import JobReport

Chunk = Sequence[JobOrder]


@dataclass(frozen=True)
class ThreadsEngine:
    """Carries out orders in chunks, one chunk a thread.

    Orders are taken from their source only when a thread is free, so that it may be endless, and issue as it goes. One
    that has no more is asked again when a chunk has ended: it may have more then.

    Parameters
    ----------
    carry_out
        Carries out one chunk, in the context variables of the caller of :meth:`run`; called from several threads at a
        time.
    threads
        Chunks at a time, at most.
    chunk_size
        Asked before each chunk how many jobs it shall have.
    interrupt
        Called with what a chunk raised, or what interrupted the caller of :meth:`run`: makes chunks that run end soon.
    pause_seconds
        Asked where the source has no more while chunks run: how long until it may have; None where one must end first.
    places
        Asked before each chunk how many there may be at a time now; by default ``threads``.
    """

    carry_out: Callable[[Chunk], Sequence[JobReport]]
    threads: int = 1
    chunk_size: Callable[[], int] = lambda: 1
    interrupt: Callable[[BaseException], None] = lambda _: None
    pause_seconds: Callable[[], float | None] = lambda: None
    places: Callable[[], int] | None = None

    def run(self, orders: Iterable[JobOrder]) -> Generator[JobReport, None, None]:
        """Carry out the orders and yield a report of each as its chunk ends.

        Where a chunk raises, or the caller is interrupted, no further chunk begins; those that run are waited for.
        """
        source = iter(orders)
        running: set[Future[Sequence[JobReport]]] = set()
        with ThreadPoolExecutor(self.threads, thread_name_prefix="nightmill-job") as pool:
            try:
                while True:
                    while len(running) < self._places() and (chunk := list(islice(source, self.chunk_size()))):
                        running.add(pool.submit(copy_context().run, self.carry_out, chunk))
                    if not running:
                        return
                    pause = self.pause_seconds() if len(running) < self._places() else None
                    ended, running = wait(running, timeout=pause, return_when=FIRST_COMPLETED)
                    for future in ended:
                        yield from future.result()
            except BaseException as error:
                self.interrupt(error)
                raise

    def _places(self) -> int:
        return self.threads if self.places is None else min(self.threads, self.places())
