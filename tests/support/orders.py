"""Orders for tests, and a bench to carry them out on: stores, scratch and spool in one folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from nightmill.execution.host import Host
from nightmill.execution.journal import Journal, journals, read_journal
from nightmill.execution.recover import Rights
from nightmill.execution.worker import Worker
from nightmill.model.confinement import NodeConfinement, Use
from nightmill.model.container import Containers
from nightmill.model.file_type import FileType, MetadataKey
from nightmill.model.journal import Entry
from nightmill.model.logs import NodeLogs
from nightmill.model.node import NodeProfile
from nightmill.model.order import AttemptKey, JobOrder, OrderInput, OrderOutput, OrderStep
from nightmill.model.ports import Stager
from nightmill.model.report import JobReport, fold
from nightmill.model.store import Store
from stagers.local import LocalStager

FILE_TYPES = {
    "text": FileType(name="text"),
    "image": FileType(
        name="image",
        format="fits",
        metadata={
            "exposure": MetadataKey(keywords=("EXPNUM",), type="int", required=True),
            "detector": MetadataKey(keywords=("CCDNUM",), type="int", required=True),
            "airmass": MetadataKey(keywords=("AIRMASS",), type="float"),
        },
    ),
}
BEGINS = datetime(2026, 1, 11, 3, 0, tzinfo=UTC)
ENDS = datetime(2026, 1, 11, 3, 1, tzinfo=UTC)


def fits_bytes(*, exposure: int = 12, detector: int = 3, size: int = 32, checksum: bool = True, **cards: Any) -> bytes:
    """Make a FITS image of the type ``image``."""
    pixels = np.random.default_rng(exposure * 100 + detector).normal(1000.0, 10.0, (size, size)).astype(np.float32)
    hdu = fits.PrimaryHDU(pixels)
    hdu.header.update({"EXPNUM": exposure, "CCDNUM": detector, **cards})
    stream = BytesIO()
    hdu.writeto(stream, checksum=checksum)
    return stream.getvalue()


def output(role: str, *names: str, type: str = "text", store: str = "backbone", **changes: Any) -> OrderOutput:
    """Make an output that is kept; ``store=""`` for an intermediate file."""
    values = {"directory": "products" if store else "", "data_id": {"exposure": 12, "detector": 3}} | changes
    return OrderOutput(role=role, type=type, names=names, store=store, **values)


def shell(name: str, script: str, *outputs: OrderOutput, inputs: tuple[str, ...] = (), **changes: Any) -> OrderStep:
    """Make a step that is a shell script."""
    return OrderStep(name=name, argv=("sh", "-c", script), inputs=inputs, outputs=outputs, **changes)


def python(name: str, code: str, *outputs: OrderOutput, inputs: tuple[str, ...] = (), **changes: Any) -> OrderStep:
    """Make a step that is a Python program."""
    return OrderStep(name=name, argv=("{python}", "-c", code), inputs=inputs, outputs=outputs, **changes)


@dataclass
class Bench:
    """Where orders are carried out: ``stores/``, ``scratch/`` and ``spool/`` below a folder."""

    root: Path
    stores: dict[str, Store] = field(default_factory=dict)
    stagers: dict[str, Stager] = field(default_factory=dict)
    containers: Containers = field(default_factory=Containers)
    logs: NodeLogs = field(default_factory=NodeLogs)
    confinement: NodeConfinement = field(default_factory=lambda: NodeConfinement(use=Use.OFF))
    """Most tests have steps that meet them, or attack their own scratch, which has to hold by itself."""

    def __post_init__(self) -> None:
        self.add_store("backbone")
        self.add_store("quicklook", catalogued=False)

    @property
    def scratch(self) -> Path:
        return self.root / "scratch"

    @property
    def spool(self) -> Path:
        return self.root / "spool"

    def add_store(self, name: str, **changes: Any) -> Path:
        """Add a store (or change one), and return its folder."""
        folder = self.root / "stores" / name
        folder.mkdir(parents=True, exist_ok=True)
        self.stores[name] = Store(name=name, url=folder.as_uri(), **changes)
        self.stagers[name] = LocalStager(self.stores[name])
        return folder

    def put(self, name: str, content: bytes, *, role: str = "frame", type: str = "image") -> OrderInput:
        """Put a file into the backbone's store, and return what an order says of it."""
        path = self.root / "stores" / "backbone" / "raw" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return OrderInput(
            role=role,
            name=name,
            type=type,
            size_bytes=len(content),
            sha256=sha256(content).hexdigest(),
            store="backbone",
            path=f"raw/{name}",
            rule="the unit's own",
        )

    def order(
        self,
        *steps: OrderStep,
        inputs: tuple[OrderInput, ...] = (),
        unit: str = "exposure=12,detector=3",
        number: int = 1,
    ) -> JobOrder:
        """Make an order."""
        attempt = AttemptKey(campaign="night1", stage="science", unit=unit, number=number)
        return JobOrder(
            attempt=attempt,
            data_id={"exposure": 12, "detector": 3},
            begins_at=BEGINS,
            ends_at=ENDS,
            pipeline="test",
            pipeline_version="1.0",
            stores=self.stores,
            file_types=FILE_TYPES,
            inputs=inputs,
            steps=steps,
            log_name=f"test_science_{unit.replace('=', '').replace(',', '-')}_a{number:02d}.log",
            log_store="backbone",
            log_directory="logs",
        )

    def run(
        self,
        *orders: JobOrder,
        listener: Callable[[Entry], None] | None = None,
        stagers: Mapping[str, Stager] | None = None,
        keep_scratch: bool = False,
        host: Host | None = None,
    ) -> list[JobReport]:
        """Carry out orders, one after another."""
        profile = NodeProfile(
            scratch=self.scratch,
            spool=self.spool,
            keep_scratch=keep_scratch,
            containers=self.containers,
            logs=self.logs,
            confinement=self.confinement,
        )
        with Worker(profile, stagers or self.stagers, listener=listener, host=host) as worker:
            return list(worker.run(orders))

    def run_one(self, order: JobOrder, **options: Any) -> JobReport:
        """Carry out one order."""
        (report,) = self.run(order, **options)
        return report

    def entries(self) -> list[Entry]:
        """Return what the journals of the spool say."""
        return [entry for path in journals(self.spool) for entry in read_journal(path).entries]

    def stored(self, store: str = "backbone") -> list[str]:
        """Return the names of the files of a store, but those that the test put there."""
        return [path.rpartition("/")[2] for path, _size in self.stagers[store].list() if not path.startswith("raw/")]

    def leftovers(self) -> list[str]:
        """Return what should never stay: scratches, and uploads that were not revealed."""
        scratches = list(self.scratch.iterdir()) if self.scratch.exists() else []
        return [str(path) for path in [*scratches, *(self.root / "stores").rglob(".*.part")]]


def rights_of(journal: Journal) -> dict[AttemptKey, Rights]:
    """Give every right on the attempts of a journal: they are open, and nobody has what is theirs."""
    return {attempt: Rights() for attempt in fold(journal.entries)}
