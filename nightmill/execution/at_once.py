"""Transfers of one attempt, some at a time where that gains anything: with stores that are not folders of this host."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Generic, TypeVar, cast

from nightmill.errors import JobFailed, StoreError

AT_ONCE: Final = 4
"""Transfers of one attempt that run at a time; what limits those of a store holds as well."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Came(Generic[Result]):
    """What came of one of several: a result or an error, or it was not begun, as another had failed."""

    result: Result | None = None
    error: JobFailed | StoreError | None = None
    begun: bool = True

    @property
    def well(self) -> bool:
        """Whether it was done."""
        return self.begun and self.error is None


def results(came: Iterable[Came[Result]]) -> list[Result]:
    """Return what was done.

    Raises
    ------
    JobFailed, StoreError
        The first error, where there is one.
    """
    done = list(came)
    for one in done:
        if one.error is not None:
            raise one.error
    return [cast(Result, one.result) for one in done]


def each(work: Callable[[Item], Result], items: Sequence[Item], *, far: Callable[[Item], bool]) -> list[Came[Result]]:
    """Do something with each of several, with some far ones at a time; once one has failed, begin no other.

    Those that run are waited for, whatever happens: nothing moves any more when this returns.

    Returns
    -------
    list of Came
        In the order of the items.
    """
    over = threading.Event()

    def tried(item: Item) -> Came[Result]:
        if over.is_set():
            return Came(begun=False)
        try:
            return Came(work(item))
        except (JobFailed, StoreError) as error:
            over.set()
            return Came(error=error)
        except BaseException:
            over.set()
            raise

    distant = [number for number, item in enumerate(items) if far(item)]
    if len(distant) < 2:
        return [tried(item) for item in items]
    with ThreadPoolExecutor(min(AT_ONCE, len(distant))) as pool:
        try:
            running = {number: pool.submit(tried, items[number]) for number in distant}
            near = {number: tried(item) for number, item in enumerate(items) if number not in running}
            return [running[number].result() if number in running else near[number] for number in range(len(items))]
        finally:
            over.set()
