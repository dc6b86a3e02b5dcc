"""Running a capsule: the order that a run obeys, and the worker that carries it out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from nightmill.errors import JobFailed, RequestRefused
from nightmill.execution.capsule.folder import KEPT, PRODUCTS, REPLACED, REPORT, RUNS, SHELLS, Capsule, Run, unwritable
from nightmill.execution.capsule.given import Given, wanted_outputs
from nightmill.execution.host import this_host
from nightmill.execution.index import index_of
from nightmill.execution.launch.containers.opened import Container, OpenedContainers
from nightmill.execution.scratch import token
from nightmill.execution.step import command_of, environment_of
from nightmill.execution.stores import open_stagers
from nightmill.execution.worker import Worker
from nightmill.files.checksum import fingerprint
from nightmill.files.packing import pack_folder
from nightmill.model.confinement import NodeConfinement
from nightmill.model.container import Containers
from nightmill.model.layout import BUNDLE, FILES, INDEX, INPUTS, WORK
from nightmill.model.node import NodeProfile
from nightmill.model.order import JobOrder, OrderBundle, OrderInput, OrderOutput, OrderStep, TakenOutput
from nightmill.model.pipeline import BundleRules
from nightmill.model.report import JobReport
from nightmill.model.store import Store

_ARCHIVE: Final = "bundle.tar"
_NO_CONTAINERS: Final = Containers()
_ALONE: Final = NodeConfinement()
_ANY_SIZE: Final = BundleRules(max_mb=1e9)


@dataclass(frozen=True)
class Shell:
    """A scratch that waits for a person in the place of a step."""

    step: OrderStep
    argv: tuple[str, ...]
    """The command that the step would run."""
    work: Path
    environment: Mapping[str, str]
    """All that the step would see."""
    container: Container | None = None
    """What the step would run in, where that is not this host as it is."""


def run_capsule(
    capsule: Capsule,
    given: Given | None = None,
    *,
    only: Sequence[str] | None = None,
    containers: Containers = _NO_CONTAINERS,
    confinement: NodeConfinement = _ALONE,
) -> Run:
    """Run a capsule, or some of its steps; what it makes stays in the capsule.

    Parameters
    ----------
    given
        What takes the place of its files.
    only
        Names of steps; by default all. What they read of steps that are not run comes from the newest run that made it,
        else from the recorded products that the capsule holds.
    containers
        What steps with an image are run with.
    confinement
        What steps may reach beside what the capsule gives them.

    Returns
    -------
    Run
        Of the job, whether or not it failed.

    Raises
    ------
    RequestRefused
        Where something that is to be read is not there, or the capsule cannot be written to.
    """
    given = given or Given()
    taken = _Taken(capsule, given, only)
    folder = capsule.new(RUNS)
    _carry_out(capsule, folder, given, taken, tuple(only) if only is not None else None, containers, confinement)
    return capsule.run(int(folder.name))


def prepare_shell(
    capsule: Capsule, given: Given | None = None, *, step: str, containers: Containers = _NO_CONTAINERS
) -> Shell:
    """Prepare the scratch of a step as a run would, up to the moment at which the step is started.

    Raises
    ------
    RequestRefused
        As :func:`run_capsule`, and where an input cannot be staged, or the image of the step is not there.
    """
    given = given or Given()
    taken = _Taken(capsule, given, (step,))
    folder = capsule.new(SHELLS)
    report = _carry_out(capsule, folder, given, taken, (), containers)
    if report.evidence:
        raise RequestRefused(report.evidence)
    [own] = [each for each in report.order.steps if each.name == step]
    scratch = folder / "scratch" / token(report.attempt)
    for file in own.files:
        (scratch / FILES).mkdir(exist_ok=True)
        (scratch / FILES / file.name).write_text(file.text, encoding="utf-8")
    try:
        container = OpenedContainers(containers, folder).of(own)
    except JobFailed as error:
        raise RequestRefused(error.message, remedy=error.remedy) from error
    made: dict[str, list[str]] = {}
    for each in report.order.taken:
        made.setdefault(each.role, []).append(each.name)
    (scratch / INDEX).write_text(index_of(report.order, own, made).model_dump_json(), encoding="utf-8")
    return Shell(
        own,
        command_of(report.order, own, made, container),
        scratch / WORK,
        environment_of(own, scratch, container, cores=this_host().cores_for(report.order.resources)),
        container,
    )


def _carry_out(
    capsule: Capsule,
    folder: Path,
    given: Given,
    taken: _Taken,
    only: tuple[str, ...] | None,
    containers: Containers,
    confinement: NodeConfinement = _ALONE,
) -> JobReport:
    try:
        with TemporaryDirectory(dir=folder, prefix=".bundle-") as aside:
            try:
                (folder / PRODUCTS).mkdir()
                order = _order(capsule, folder, Path(aside), given, taken, only)
            except BaseException:
                shutil.rmtree(folder)
                raise
            scratch, journal = folder / "scratch", folder / "journal"
            profile = NodeProfile(
                scratch=scratch,
                spool=journal,
                cache=Path(aside),
                keep_scratch=True,
                containers=containers,
                confinement=confinement,
            )
            with Worker(profile, open_stagers(order.stores, {})) as worker:
                [report] = worker.run([order])
        (folder / REPORT).write_text(report.model_dump_json(indent=2), encoding="utf-8")
    except OSError as error:
        raise unwritable(capsule.folder, error) from error
    return report


def _order(
    capsule: Capsule, folder: Path, aside: Path, given: Given, taken: _Taken, only: tuple[str, ...] | None
) -> JobOrder:
    """Return the order of the capsule with the places of this run, and what it was given."""
    order = capsule.order
    (folder / REPLACED).mkdir()
    access = order.stores[order.log_store].access
    places = {
        INPUTS: capsule.inputs,
        PRODUCTS: folder / PRODUCTS,
        REPLACED: folder / REPLACED,
        BUNDLE: aside,
        **taken.places,
    }
    return order.model_copy(
        update={
            "stores": {
                name: Store(name=name, url=place.as_uri(), verify="checksum", access=access)
                for name, place in places.items()
            },
            "inputs": tuple([_input(file, given, folder / REPLACED) for file in order.inputs]),
            "taken": tuple(taken.files(folder / REPLACED)),
            "only": only,
            "bundle": _bundle(capsule, aside),
        }
    )


def _input(file: OrderInput, given: Given, replaced: Path) -> OrderInput:
    path = given.inputs.get(file.name)
    if path is None:
        return file
    size_bytes, digest = _copied(path, replaced / file.staged_name)
    return file.model_copy(
        update={"size_bytes": size_bytes, "sha256": digest, "store": REPLACED, "path": file.staged_name}
    )


def _copied(path: Path, target: Path) -> tuple[int, str]:
    """Copy a file that was given, so that what a run read stays beside it; return its size and its digest."""
    try:
        shutil.copyfile(path, target)
    except OSError as error:
        raise RequestRefused(f"{path} cannot be copied to {target.parent}: {error.strerror}") from error
    return fingerprint(target)


def _bundle(capsule: Capsule, aside: Path) -> OrderBundle | None:
    """Pack the pipeline's folder as it lies in the capsule: as it was at submit, or as somebody has edited it since."""
    own = capsule.order.bundle
    if own is None:
        return None
    with (aside / _ARCHIVE).open("xb") as target:
        digest, size_bytes, _files = pack_folder(capsule.bundle, _ANY_SIZE, target=target)
    return OrderBundle(digest=digest, size_bytes=size_bytes, store=BUNDLE, path=_ARCHIVE)


class _Taken:
    """What steps that are not run had made, as far as others read it, and where it lies.

    Raises
    ------
    RequestRefused
        Where some of it is nowhere.
    """

    def __init__(self, capsule: Capsule, given: Given, only: Sequence[str] | None) -> None:
        self.places: dict[str, Path] = {}
        self._given: list[tuple[OrderOutput, Path]] = []
        self._found: list[tuple[OrderOutput, str, Path]] = []
        for step, output in wanted_outputs(capsule.order, only):
            if output.role in given.outputs:
                self._given.append((output, given.outputs[output.role]))
            else:
                store, folder, names = _made_before(capsule, step, output)
                self.places[store] = folder
                self._found += [(output, store, folder / name) for name in names]

    def files(self, replaced: Path) -> Iterator[TakenOutput]:
        """Yield what is to be staged, by what its bytes are now; what was given is copied first."""
        for output, path in self._given:
            name = output.names[0] if output.names else path.name
            yield _taken(output, name, REPLACED, *_copied(path, replaced / name))
        for output, store, path in self._found:
            yield _taken(output, path.name, store, *fingerprint(path))


def _taken(output: OrderOutput, name: str, store: str, size_bytes: int, digest: str) -> TakenOutput:
    return TakenOutput(role=output.role, name=name, size_bytes=size_bytes, sha256=digest, store=store, path=name)


def _made_before(capsule: Capsule, step: OrderStep, output: OrderOutput) -> tuple[str, Path, list[str]]:
    """Return where the files of an output lie: the name of a store, its folder, and their names."""
    for run in capsule.runs():
        names = list(run.made.get(output.role, ()))
        if step.name in run.done and all((run.outputs / name).is_file() for name in names):
            return f"run-{run.number}", run.outputs, names
    recorded = capsule.recorded()
    made = [file.name for file in recorded.made if file.role == output.role] if recorded else []
    if made and all((capsule.folder / KEPT / name).is_file() for name in made):
        return KEPT, capsule.folder / KEPT, made
    raise RequestRefused(
        f"step {step.name!r} makes {output.called}, which the steps that are to be run read, and no run of this capsule"
        " made it",
        remedy=f"run that step before, as with --steps {step.name}, or give the file: --input {output.role}=PATH",
    )
