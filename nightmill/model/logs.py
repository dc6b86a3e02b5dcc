"""Logs of a site: how much of a step's output is kept, and where its lines go as they are written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from nightmill.model.base import Frozen

SINK_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$"
_URL: Final = re.compile(r"(?:(?:tcp|tls)://[^/@\s]+:\d+|https?://\S+)$")


class LogSink(Frozen):
    """Something that takes lines of logs, as Logstash and syslog-ng do: JSON, one object a line."""

    url: str
    """``tcp://HOST:PORT``, ``tls://HOST:PORT``, or an ``http://`` or ``https://`` URL that takes them by POST."""
    ca: str = ""
    """A file of certificate authorities, in PEM; by default those of the host."""
    headers: Mapping[str, str] = Field(default_factory=dict)
    """What requests to a URL of HTTP say beside, as ``Authorization``."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not _URL.match(self.url):
            raise ValueError("a sink whose 'url' is tcp://HOST:PORT, tls://HOST:PORT, or of http or https")
        if self.ca and not self.url.startswith(("tls:", "https:")):
            raise ValueError("a sink with 'ca' where its url begins with tls: or https:, and there alone")
        if self.headers and not self.url.startswith("http"):
            raise ValueError("a sink with 'headers' where its url is of HTTP, and there alone")
        return self


class NodeLogs(Frozen):
    """What workers do with the output of steps."""

    max_bytes: int = Field(default=64 << 20, ge=1 << 16)
    """So much of what one step prints is kept: half of it from the beginning, half from the end."""
    lines: bool = False
    """Whether each line of it goes into the spool as JSON."""
    spool_bytes: int = Field(default=1 << 30, ge=1 << 20)
    """So much room of the spool such lines take; where they would take more, the oldest are dropped and counted."""


class LogsConfig(Frozen):
    """What becomes of the logs of jobs."""

    max_bytes: int = Field(default=64 << 20, ge=1 << 16)
    """So much of what one step prints is kept: half of it from the beginning, half from the end."""
    files: bool = False
    """Whether lines go into the spool as JSON although no sink takes them: a program of the site reads the files."""
    spool_bytes: int = Field(default=1 << 30, ge=1 << 20)
    """So much room of the spool they take; where they would take more, the oldest are dropped and counted."""
    sinks: Mapping[Annotated[str, StringConstraints(pattern=SINK_NAME)], LogSink] = Field(default_factory=dict)
    """Where they are sent, by name: each gets all of them, in its own time."""
    prefect_lines: int = Field(default=1000, ge=0)
    """So many lines of evidence a slice puts into the log of its run in Prefect."""

    @property
    def of_nodes(self) -> NodeLogs:
        """The part that workers need."""
        lines = self.files or bool(self.sinks)
        return NodeLogs(max_bytes=self.max_bytes, lines=lines, spool_bytes=self.spool_bytes)


class LogLine(Frozen):
    """One line of a log, as sinks get it: ``@timestamp`` and ``@version`` stand for the first two fields."""

    timestamp: str = Field(alias="@timestamp")
    """When it was read from the step: within about a second of when it was written. UTC, ISO 8601."""
    version: Literal["1"] = Field(default="1", alias="@version")
    """Of the form of events of Logstash."""
    id: str
    """The same whenever the line is sent again: what comes twice is known by it."""
    campaign: str
    stage: str
    unit: str
    attempt: int
    job: str
    """``CAMPAIGN/STAGE/UNIT``; a retry has the same."""
    step: str
    """Empty where nightmill tells something of the whole attempt."""
    host: str
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
    """As the line says it in one of the common ways; else INFO."""
    message: str
    """The line without colours; a control character or a byte that is not text is U+FFFD."""
