"""Slurm, by its own commands: dispatches are elements of job arrays, and what became of each its accounting tells."""

from __future__ import annotations

import re
import shlex
import sys
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import cached_property
from math import ceil, inf
from typing import Final

from pydantic import Field

from nightmill.engines.commands import INHERITED, BatchOptions, Commands
from nightmill.errors import RequestRefused
from nightmill.execution.dispatches import OUTPUT
from nightmill.model.campaign import Hosts
from nightmill.model.dispatch import Dispatch, Standing
from nightmill.model.fate import Fate
from nightmill.model.pipeline import Resources

ELEMENTS: Final = 100
"""Of an array, at most: their names stand in its comment."""
JOB_NAME: Final = "nightmill"
NO_SPOOL: Final = 66
"""How a batch script exits on a node that does not see the spool."""
NO_PYTHON: Final = ("126", "127")
"""How a shell exits where the interpreter is not there, or cannot be run."""
_AWAY: Final = re.compile(
    r"unable to contact|connection (refused|timed out|reset)|socket timed out|zero bytes were transmitted|"
    r"slurm backend|communication (connection )?failure|authentication|munge|persistent connection|timed out",
    re.IGNORECASE,
)
_WAITING: Final = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"})
_RUNNING: Final = frozenset({"RUNNING", "COMPLETING", "SUSPENDED", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED"})
_FATES: Final = {
    "COMPLETED": None,
    "FAILED": Fate.LOST,
    "OUT_OF_MEMORY": Fate.OUT_OF_MEMORY,
    "TIMEOUT": Fate.WALL_LIMIT,
    "DEADLINE": Fate.WALL_LIMIT,
    "NODE_FAIL": Fate.NODE_FAILED,
    "BOOT_FAIL": Fate.NODE_FAILED,
    "PREEMPTED": Fate.PREEMPTED,
    "REVOKED": Fate.LOST,
    "CANCELLED": Fate.ENDED_OUTSIDE,
}
"""What became of a job, by the state that Slurm ends it with."""


class SlurmOptions(BatchOptions):
    """How dispatches are submitted."""

    partition: str = ""
    """Where they go; Slurm's default where there is none."""
    account: str = ""
    """Who pays; the user's default where there is none."""
    qos: str = ""
    """Quality of service."""
    options: tuple[str, ...] = ()
    """Further options of ``sbatch``, as they are: ``--constraint=avx2``."""
    check: tuple[str, ...] = ()
    """The nodes that a flight check tries one by one, by patterns over their names; without any it tries one."""
    look_seconds: float = Field(default=1.0, gt=0)
    """The shortest time between two looks at the queue."""


class Slurm:
    """``slurm``: a dispatch is an element of a job array, whose batch script is its worker.

    Slurm never starts one again by itself. What it knows no more, its accounting tells.
    """

    Options: Final = SlurmOptions
    dispatch_seconds: Final = 1.0  # a job starts in up to 0.4 s, and then an interpreter

    def __init__(self, name: str, options: SlurmOptions) -> None:
        self._name, self._options = name, options
        self._commands = slurm_commands(name, "partition, account, qos and options")
        self.places = options.places
        self.look_seconds = options.look_seconds
        self._ended_here: set[str] = set()

    def submit(self, dispatches: Sequence[Dispatch]) -> list[str]:
        """Submit an array for those that ask for the same."""
        arrays: dict[tuple[Resources, float, Hosts], list[Dispatch]] = defaultdict(list)
        for dispatch in dispatches:
            arrays[dispatch.resources, dispatch.wall_seconds, dispatch.hosts].append(dispatch)
        handles: dict[str, str] = {}
        try:
            for of_one_kind in arrays.values():
                for start in range(0, len(of_one_kind), ELEMENTS):
                    handles |= self._submit(of_one_kind[start : start + ELEMENTS])
        except RequestRefused:
            self.end([*handles.values()])
            raise
        return [handles[dispatch.name] for dispatch in dispatches]

    def _submit(self, elements: Sequence[Dispatch]) -> dict[str, str]:
        first, own = elements[0], self._options
        wanted = {
            "partition": own.partition,
            "account": own.account,
            "qos": own.qos,
            "cpus-per-task": str(first.resources.cores),
            "time": str(ceil(min(first.wall_seconds + own.wall_margin_seconds, self._most_seconds) / 60)),
            "exclude": ",".join(self._barred(first.hosts)),
            "export": ",".join([*INHERITED, *own.export]),
            "comment": ",".join([each.name for each in elements]),
        }
        if first.resources.accelerators:
            wanted["gres"] = f"{first.resources.accelerator}:{first.resources.accelerators}"
        if first.resources.memory_bytes is not None:
            wanted["mem"] = f"{ceil((first.resources.memory_bytes + own.memory_margin_bytes) / 2**20)}M"
        told = self._commands.call(
            "sbatch",
            "--parsable",
            "--no-requeue",
            "--output=/dev/null",
            f"--job-name={JOB_NAME}",
            f"--array=0-{len(elements) - 1}",
            *(f"--{option}={value}" for option, value in wanted.items() if value),
            *own.options,
            script=self._script(elements),
        )
        job = told.strip().partition(";")[0]
        return {each.name: f"{job}_{number}" for number, each in enumerate(elements)}

    @cached_property
    def _most_seconds(self) -> float:
        """How long a job of the partition may run: one that asks for more would wait for ever.

        The limits of the jobs of a chunk add up to more than they ever take.
        """
        of = [f"--partition={self._options.partition}"] if self._options.partition else []
        partitions = [
            line.split("|") for line in self._commands.call("sinfo", "--noheader", "--format=%P|%l", *of).splitlines()
        ]
        limits = [limit for name, limit in partitions if of or name.endswith("*")]
        return max((_seconds(limit) for limit in limits), default=inf)

    def _script(self, elements: Sequence[Dispatch]) -> str:
        """Write the batch script, which becomes the worker."""
        python = self._options.python or sys.executable
        seen = f"[ -d {shlex.quote(str(elements[0].folder.parent))} ] || exit {NO_SPOOL}"
        lines = ["#!/bin/sh", seen, 'case "$SLURM_ARRAY_TASK_ID" in']
        for number, each in enumerate(elements):
            command = shlex.join([python, "-P", *each.argv])
            lines.append(f"{number}) exec {command} > {shlex.quote(str(each.folder / OUTPUT))} 2>&1 ;;")
        return "\n".join([*lines, "esac", ""])

    def _barred(self, hosts: Hosts) -> list[str]:
        """Return the nodes that may not be used.

        Raises
        ------
        RequestRefused
            Where none is left.
        """
        if not (hosts.use or hosts.avoid):
            return []
        nodes = self._nodes()
        barred = [node for node in nodes if hosts.bar(node)]
        if nodes and barred == nodes:
            remedy = f"its nodes are {', '.join(nodes[:10])}{', ...' if len(nodes) > 10 else ''}"
            raise RequestRefused(f"no node of engine {self._name!r} may be used: {hosts.bar(nodes[0])}", remedy=remedy)
        return barred

    def _nodes(self, *options: str) -> list[str]:
        return sorted(set(self._commands.call("sinfo", "--noheader", "--Node", "--format=%N", *options).split()))

    def hosts_to_try(self) -> list[str]:
        """Return the nodes of the partition that ``check`` names."""
        of = [f"--partition={self._options.partition}"] if self._options.partition else []
        nodes = self._nodes(*of) if self._options.check else []
        for pattern in self._options.check:
            if not any(fnmatchcase(node, pattern) for node in nodes):
                where = f"partition {self._options.partition!r}" if of else "the cluster"
                there = f"{', '.join(nodes[:10])}{', ...' if len(nodes) > 10 else ''}" or "none"
                raise RequestRefused(
                    f"engine {self._name!r} is to check node {pattern!r}, and {where} has {there}",
                    remedy=f"mend 'check' of engine {self._name!r}, or its partition",
                )
        return [node for node in nodes if any(fnmatchcase(node, pattern) for pattern in self._options.check)]

    def look(self, handles: Sequence[str]) -> dict[str, Standing]:
        """Ask the queue, and the accounting for what has ended or is in the queue no more."""
        wanted, standings = set(handles), dict[str, Standing]()
        told = self._commands.call("squeue", *_MINE, "--array", "--format=%F_%K|%T|%N|%r")
        for line in told.splitlines():
            handle, state, node, reason = line.split("|")
            if handle in wanted:
                standings[handle] = self._standing(handle, state, node, "" if reason == "None" else reason)
        asked = [handle for handle in handles if handle not in standings or standings[handle].state == "ended"]
        accounted = self._accounted(asked) if asked else {}
        for handle in asked:  # the accounting hears of it a moment later
            if handle not in accounted and (seen := standings.get(handle)) is not None and seen.fate is Fate.LOST:
                accounted[handle] = self._standing(handle, "FAILED", seen.host, code=self._exit_code(handle))
        return standings | accounted

    def _exit_code(self, handle: str) -> str:
        """Ask the controller for the exit code of a job that ended a moment ago: ``127:0``, the second of a signal."""
        with suppress(RequestRefused):
            if match := _EXIT_CODE.search(self._commands.call("scontrol", "--oneliner", "show", "job", handle)):
                return match[1]
        return ""

    def _accounted(self, handles: Sequence[str]) -> dict[str, Standing]:
        """Return what the accounting tells of the ends of some; nothing of what it does not know to have ended."""
        jobs = ",".join(sorted({handle.partition("_")[0] for handle in handles}))
        fields = "JobID,State,ExitCode,NodeList,Reason"
        try:
            told = self._commands.call("sacct", *_ENDS, f"--jobs={jobs}", f"--format={fields}")
        except RequestRefused:  # it has no accounting: the queue knows for a while
            return {}
        wanted, standings = set(handles), dict[str, Standing]()
        for line in told.splitlines():
            handle, state, code, node, reason = line.split("|")
            name = state.partition(" ")[0]
            if handle in wanted and name in _FATES:
                more = "" if reason == "None" or name == "FAILED" else reason
                standings[handle] = self._standing(handle, state, node, more, code)
        return standings

    def _standing(self, handle: str, state: str, node: str, more: str = "", code: str = "") -> Standing:
        name = state.partition(" ")[0].rstrip("+")
        host = "" if node in ("", "None assigned") else node
        if name in _WAITING:
            return Standing(state="waiting", evidence=f"Slurm job {handle}: {state}" + (f" ({more})" if more else ""))
        if name in _RUNNING:
            return Standing(state="running", host=host)
        if name not in _FATES:
            return Standing(state="unknown", host=host, evidence=f"Slurm job {handle}: {state}")
        fate = Fate.CANCELLED if name == "CANCELLED" and handle in self._ended_here else _FATES[name]
        told = f"Slurm job {handle}{f' on {host}' if host else ''}: {state}"
        evidence = ", ".join([told, *filter(None, [more, self._exited(code) if name == "FAILED" else ""])])
        unfit = name == "FAILED" and code.partition(":")[0] not in ("", "0")
        return Standing(state="ended", host=host, fate=fate, evidence=evidence, unfit=unfit)

    def _exited(self, ended: str) -> str:
        """Say what a batch script tells by how it ended."""
        code, _, signal = ended.partition(":")
        if signal not in ("", "0"):
            return f"ended by signal {signal}"
        told = f"exit code {code}" if code else ""
        if code == str(NO_SPOOL):
            return f"{told}: the node does not see the spool; mount it there, under the same path"
        if code in NO_PYTHON:
            own = self._options.python or sys.executable
            remedy = f"install nightmill there, or name its interpreter as 'python' of engine {self._name!r}"
            return f"{told}: {own} is not on the node, or cannot be run; {remedy}"
        return told

    def end(self, handles: Sequence[str]) -> None:
        """Take out of the queue what waits, and tell the workers that run."""
        self._ended_here.update(handles)
        for state, how in (("PENDING", ()), ("RUNNING", ("--batch", "--signal=TERM"))):
            with suppress(RequestRefused):  # it has ended meanwhile
                self._commands.call("scancel", f"--state={state}", *how, *handles)

    def find(self, names: Sequence[str]) -> dict[str, str]:
        """Find arrays by their comments."""
        wanted, found = set(names), dict[str, str]()
        for line in self._commands.call("squeue", *_MINE, "--format=%F|%k").splitlines():
            job, _, comment = line.partition("|")
            for number, name in enumerate(comment.split(",")):
                if name in wanted:
                    found[name] = f"{job}_{number}"
        return found

    def close(self) -> None:
        """Leave everything as it is."""


def slurm_commands(engine: str, keys: str) -> Commands:
    """Return the commands of Slurm for an engine whose keys of that name tell it what to do."""
    return Commands("Slurm", engine, _AWAY, keys, {"SLURM_TIME_FORMAT": "standard"})


def _seconds(limit: str) -> float:
    """Read a time limit as Slurm writes it: ``[DAYS-]HOURS:MINUTES:SECONDS``, ``MINUTES:SECONDS`` or ``infinite``."""
    if (match := _LIMIT.fullmatch(limit)) is None:
        return inf
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


_LIMIT: Final = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)")
_EXIT_CODE: Final = re.compile(r"\bExitCode=(\d+:\d+)")
_MINE: Final = ("--me", f"--name={JOB_NAME}", "--states=all", "--noheader")
_ENDS: Final = ("--noheader", "--parsable2", "--allocations")
