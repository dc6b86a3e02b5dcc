"""What a worker may use on its host: the half of its task that is the site's and not the order's."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from nightmill.model.access import Access
from nightmill.model.base import Frozen
from nightmill.model.confinement import NodeConfinement
from nightmill.model.container import Containers
from nightmill.model.error_rule import ErrorRule
from nightmill.model.logs import NodeLogs

NODE_VERSION = 1


class NetworkPaths(StrEnum):
    """What becomes of a step that depends on a network mount: its server may be slow, away, or have other files."""

    ALLOW = "allow"
    """Nobody looks."""
    WARN = "warn"
    """It is told: by the plan, and in the log of each job by the node that it runs on."""
    REFUSE = "refuse"
    """A plan with such a step is refused, and a node on which a step would be such a one does not start it."""


class NewSoftware(StrEnum):
    """What becomes of a step whose software is new to the site: no regression passed, and nobody accepted it."""

    ALLOW = "allow"
    """Nobody looks."""
    WARN = "warn"
    """It is told: in the log of each job, and by ``nightmill doctor``."""
    GATE = "gate"
    """The step is not started, and its worker begins nothing any more."""


class SoftwareRules(Frozen):
    """What a site says of the software of its steps."""

    new: NewSoftware = NewSoftware.ALLOW
    """What becomes of a step whose software is new: ``allow``, ``warn`` or ``gate``."""


class SoftwarePolicy(Frozen):
    """What becomes of steps whose software is new."""

    new: NewSoftware = NewSoftware.ALLOW
    known: tuple[str, ...] = ()
    """Digests of stacks, without their bundles, that are not new."""


class NodeProfile(Frozen):
    """Where a worker works on a host, and what it may use there. Paths are absolute."""

    schema_version: Literal[1] = 1
    scratch: Path
    """Folder for the scratches of jobs, on a local disk."""
    spool: Path
    """Folder for journals and claims, which the site sees."""
    access: Access = Access.PRIVATE
    """Who else may look into what it makes."""
    secrets: Path | None = None
    """A file of mode 600 that has what ``${NAME}`` in the URLs of stores stands for, one ``NAME=VALUE`` per line."""
    cache: Path | None = None
    """Folder for what many jobs of the host need: bundles. By default ``cache`` in the spool."""
    cores: int | None = None
    """Cores that its jobs may share; all of the host's by default."""
    transfers: Mapping[str, Annotated[int, Field(ge=0)]] = {}
    """How many transfers run at a time with a store from each host, where the site's file limits them, by its name."""
    containers: Containers = Containers()
    """What steps with an image are run with."""
    network_paths: NetworkPaths = NetworkPaths.WARN
    """What becomes of steps that depend on network mounts of the host."""
    software: SoftwarePolicy = SoftwarePolicy()
    """What becomes of steps whose software is new to the site."""
    logs: NodeLogs = NodeLogs()
    """What becomes of the output of steps."""
    errors: tuple[ErrorRule, ...] = ()
    """What the site knows as errors by what steps say: they find the lines that tell why a step failed."""
    signing_key: Path | None = None
    """A private key of the site, with which its workers sign what they publish; no step reaches it."""
    confinement: NodeConfinement = NodeConfinement()
    """How steps are confined."""
    keep_scratch: bool = False
    """Whether scratches stay for somebody to look into."""
