"""HTCondor, by its own commands: dispatches are jobs of a cluster, whose ends its queue and its history tell."""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from math import ceil
from typing import Any, Final

from pydantic import Field

from nightmill.engines.commands import INHERITED, BatchOptions, Commands
from nightmill.errors import RequestRefused
from nightmill.model.campaign import Hosts
from nightmill.model.dispatch import Dispatch, Standing
from nightmill.model.fate import Fate
from nightmill.model.pipeline import Resources

BATCH: Final = "nightmill"
"""Name of the batch that all are of."""
NAME: Final = "NightmillDispatch"
"""Attribute of a job: the name of its dispatch."""
OUTPUT: Final = "output"
"""In the folder of a dispatch: what its worker wrote to stdout and stderr."""
_AWAY: Final = re.compile(
    r"failed to (connect|fetch)|can't (find address|connect)|unable to (locate|connect)|timed out|extra info:|"
    r"communication error|authentication failed|failed to end classad",
    re.IGNORECASE,
)
_IDLE, _RUNNING, _REMOVED, _COMPLETED, _HELD, _TRANSFERRING, _SUSPENDED = range(1, 8)
"""``JobStatus``."""
_HELD_BY_USER: Final = 1
_OUT_OF_RESOURCES: Final = 34
_OUT_OF_DISK: Final = 104
"""``HoldReasonSubCode`` of that; any other is memory."""
_FATES: Final = {
    46: Fate.WALL_LIMIT,  # JobDurationExceeded
    47: Fate.WALL_LIMIT,  # JobExecuteExceeded
    1004: Fate.ENDED_OUTSIDE,  # UserVacateJob
    1008: Fate.NODE_FAILED,  # ReconnectFailed
    1010: Fate.ENDED_OUTSIDE,  # StartdVacateCommand
    1011: Fate.PREEMPTED,  # StartdPreemptExpression
    1013: Fate.ENDED_OUTSIDE,  # StartdShutdown
    1014: Fate.ENDED_OUTSIDE,  # StartdDraining
    1015: Fate.PREEMPTED,  # StartdCoalesce
    1018: Fate.PREEMPTED,  # StartdPreemptingClaimRank
    1019: Fate.PREEMPTED,  # StartdPreemptingClaimUserPrio
}
"""What became of a job, by the code that it was held or vacated with; :attr:`Fate.LOST` by any other."""
_OWN_ENDS: Final = (0, 1)
"""How a worker exits that has told everything."""
_TOLD: Final = 128 + 15
_ASKED: Final = (
    f"ClusterId,ProcId,{NAME},JobStatus,NumJobStarts,RemoteHost,LastRemoteHost,RemoveReason,ExitCode,ExitBySignal,"
    "ExitSignal,HoldReason,HoldReasonCode,HoldReasonSubCode,VacateReason,VacateReasonCode,VacateReasonSubCode"
)

Job = Mapping[str, Any]
"""The attributes of a job."""


class HTCondorOptions(BatchOptions):
    """How dispatches are submitted."""

    account: str = ""
    """``accounting_group``: who pays."""
    options: tuple[str, ...] = ()
    """Further lines of the submit file, as they are: ``+WantFlocking = true``."""
    look_seconds: float = Field(default=2.0, gt=0)
    """The shortest time between two looks at the queue."""


class HTCondor:
    """``htcondor``: a dispatch is a job of the vanilla universe, whose program is its worker.

    Each job starts once: what was evicted or held is taken out of the queue.
    """

    Options: Final = HTCondorOptions
    dispatch_seconds: Final = 3.0  # a job waits for the next round of its negotiator, and then an interpreter starts

    def __init__(self, name: str, options: HTCondorOptions) -> None:
        self._name, self._options = name, options
        self.places = options.places
        self.look_seconds = options.look_seconds
        self._commands = Commands("HTCondor", name, _AWAY, "account and options")
        self._ended_here: set[str] = set()

    def submit(self, dispatches: Sequence[Dispatch]) -> list[str]:
        """Submit a cluster of jobs for those that ask for the same."""
        clusters: dict[tuple[Resources, float, Hosts], list[Dispatch]] = defaultdict(list)
        for dispatch in dispatches:
            clusters[dispatch.resources, dispatch.wall_seconds, dispatch.hosts].append(dispatch)
        handles: dict[str, str] = {}
        try:
            for of_one_kind in clusters.values():
                told = self._commands.call("condor_submit", "-terse", "-", script=self._description(of_one_kind))
                cluster = told.split()[0].partition(".")[0]
                handles |= {each.name: f"{cluster}.{number}" for number, each in enumerate(of_one_kind)}
        except RequestRefused:
            self.end([*handles.values()])
            raise
        return [handles[dispatch.name] for dispatch in dispatches]

    def _description(self, jobs: Sequence[Dispatch]) -> str:
        """Write the submit file of dispatches that ask for the same, and stand in the same spool."""
        first, own = jobs[0], self._options
        worker = [*first.argv[:-1], f"{_literal(str(first.folder.parent))}/$(dispatch)"]
        told = f"{_literal(str(first.folder.parent))}/$(dispatch)/{OUTPUT}"
        lines = {
            "universe": "vanilla",
            "executable": own.python or sys.executable,
            "arguments": '"{}"'.format(" ".join(_quoted(each) for each in ("-P", *worker))),
            "transfer_executable": "false",
            "should_transfer_files": "NO",
            "initialdir": "/",
            "output": told,
            "error": told,
            "getenv": ",".join([*INHERITED, *own.export]),
            "batch_name": BATCH,
            f"My.{NAME}": '"$(dispatch)"',
            "request_cpus": str(first.resources.cores),
            "allowed_execute_duration": str(ceil(first.wall_seconds + own.wall_margin_seconds)),
            "requirements": " && ".join(["(MY.NumJobStarts ?: 0) == 0", *self._placed(first.hosts)]),
        }
        if first.resources.memory_bytes is not None:
            lines["request_memory"] = f"{ceil((first.resources.memory_bytes + own.memory_margin_bytes) / 2**20)}M"
        if first.resources.scratch_bytes is not None:
            lines["request_disk"] = f"{ceil(first.resources.scratch_bytes / 2**10)}K"
        if own.account:
            lines["accounting_group"] = own.account
        said = [*(f"{key} = {value}" for key, value in lines.items()), *own.options]
        return "\n".join([*said, "queue dispatch from (", *(each.name for each in jobs), ")", ""])

    def _placed(self, hosts: Hosts) -> list[str]:
        """Return the requirement that keeps a job off the nodes that it may not use.

        Raises
        ------
        RequestRefused
            Where none is left.
        """
        if not (hosts.use or hosts.avoid):
            return []
        nodes = sorted(set(self._commands.call("condor_status", "-af", "Machine").split()))
        barred = [node for node in nodes if hosts.bar(node)]
        if nodes and barred == nodes:
            remedy = f"its nodes are {', '.join(nodes[:10])}{', ...' if len(nodes) > 10 else ''}"
            raise RequestRefused(f"no node of engine {self._name!r} may be used: {hosts.bar(nodes[0])}", remedy=remedy)
        return [f'TARGET.Machine != "{node}"' for node in barred]

    def look(self, handles: Sequence[str]) -> dict[str, Standing]:
        """Ask the queue, and the history for what is there no more; what was begun and waits again is removed."""
        wanted = set(handles)
        standings = {handle: self._standing(handle, job) for handle, job in self._queue() if handle in wanted}
        if stuck := [handle for handle, standing in standings.items() if standing.state == "ended"]:
            self._remove(stuck)
        if gone := sorted(wanted - standings.keys()):
            told = self._commands.call("condor_history", "-json", "-attributes", _ASKED, *gone)
            standings |= {handle: self._standing(handle, job) for handle, job in _jobs(told) if handle in gone}
        return standings

    def _queue(self) -> Iterable[tuple[str, Job]]:
        mine = f'JobBatchName == "{BATCH}"'
        return _jobs(self._commands.call("condor_q", "-json", "-attributes", _ASKED, "-constraint", mine))

    def _standing(self, handle: str, job: Job) -> Standing:
        status, host = (
            job["JobStatus"],
            str(job.get("RemoteHost") or job.get("LastRemoteHost") or "").rpartition("@")[2],
        )
        said = f"HTCondor job {handle}{f' on {host}' if host else ''}"
        ended = partial(Standing, state="ended", host=host)
        if status in (_RUNNING, _TRANSFERRING, _SUSPENDED):
            return Standing(state="running", host=host)
        if status == _REMOVED:
            who = Fate.CANCELLED if handle in self._ended_here else Fate.ENDED_OUTSIDE
            return ended(fate=who, evidence=f"{said}: removed, {job.get('RemoveReason', 'and it says not why')}")
        if status == _COMPLETED:
            how, fate = _exit_of(job)
            return ended(fate=fate, evidence=f"{said}: {how}")
        begun = bool(job.get("NumJobStarts") or host)
        if status == _HELD:
            why = f"held ({job.get('HoldReasonCode')}): {job.get('HoldReason', '')}"
            if job.get("HoldReasonCode") == _HELD_BY_USER and not begun:
                return Standing(state="waiting", evidence=f"{said}: {why}")
            return ended(fate=_fate_of(job, "Hold"), evidence=f"{said}: {why}")
        if begun:
            why = f"evicted ({job.get('VacateReasonCode')}): {job.get('VacateReason', 'and it says not why')}"
            return ended(fate=_fate_of(job, "Vacate"), evidence=f"{said}: {why}")
        return Standing(state="waiting")

    def end(self, handles: Sequence[str]) -> None:
        """Take out of the queue what waits; workers that run hear of it by their dispatches."""
        self._ended_here.update(handles)
        wanted = set(handles)
        waiting = [handle for handle, job in self._queue() if handle in wanted and job["JobStatus"] == _IDLE]
        if waiting:
            self._remove(waiting)

    def _remove(self, handles: Sequence[str]) -> None:
        with suppress(RequestRefused):  # it has ended meanwhile
            self._commands.call("condor_rm", *handles)

    def find(self, names: Sequence[str]) -> dict[str, str]:
        """Find jobs by the names of their dispatches."""
        wanted = set(names)
        return {job[NAME]: handle for handle, job in self._queue() if job.get(NAME) in wanted}

    def close(self) -> None:
        """Leave everything as it is."""


def _jobs(told: str) -> Iterable[tuple[str, Job]]:
    """Read what a command tells of jobs, which is nothing at all where there is none."""
    for job in json.loads(told or "[]"):
        yield f"{job['ClusterId']}.{job['ProcId']}", job


def _exit_of(job: Job) -> tuple[str, Fate | None]:
    if job.get("ExitBySignal"):
        return f"its worker was ended by signal {job.get('ExitSignal')}", Fate.LOST
    code = int(job.get("ExitCode", -1))
    fates: dict[int, Fate | None] = {**dict.fromkeys(_OWN_ENDS), _TOLD: Fate.ENDED_OUTSIDE}
    return f"its worker exited with code {code}", fates.get(code, Fate.LOST)


def _fate_of(job: Job, how: str) -> Fate:
    """Return the fate of a job that was held, or vacated."""
    code = int(job.get(f"{how}ReasonCode", 0))
    if code == _OUT_OF_RESOURCES:
        return Fate.NO_SPACE if job.get(f"{how}ReasonSubCode") == _OUT_OF_DISK else Fate.OUT_OF_MEMORY
    return Fate.ENDED_OUTSIDE if code == _HELD_BY_USER else _FATES.get(code, Fate.LOST)


def _literal(text: str) -> str:
    """Keep a text in a submit file from being taken for a macro."""
    return text.replace("$", "$(DOLLAR)")


def _quoted(argument: str) -> str:
    """Quote an argument as the new syntax of HTCondor wants it."""
    return "'{}'".format(argument.replace("'", "''").replace('"', '""'))
