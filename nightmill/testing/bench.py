"""A bench for pipelines: one step, or a whole stage, run on given files in about a second, without a site."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import count
from pathlib import Path

from nightmill.config.file_types import load_file_types
from nightmill.config.pipeline import load_pipeline
from nightmill.config.rules import NOWHERE
from nightmill.errors import RequestRefused, UnknownName
from nightmill.execution.scratch import token
from nightmill.execution.stores import open_stagers
from nightmill.execution.worker import Worker
from nightmill.files.inspection import inspect_file
from nightmill.model.container import Containers
from nightmill.model.dimensions import DataId, unit_name
from nightmill.model.fate import Fate
from nightmill.model.file_type import FileType
from nightmill.model.found_file import FoundFile
from nightmill.model.layout import OUTPUTS
from nightmill.model.node import NodeProfile
from nightmill.model.observed import WantedLevel
from nightmill.model.pipeline import Input, Parameter, Pipeline, Stage
from nightmill.model.report import JobReport
from nightmill.model.states import AttemptState
from nightmill.model.store import Store
from nightmill.planning.orders import render
from nightmill.planning.sealed import Choice, PlannedJob, StageCommon

GIVEN = "given"
"""Name of the bench's store for the files that it is given."""
Given = Mapping[str, Path | str | Sequence[Path | str]]
"""Role to its file, or files."""


@dataclass(frozen=True)
class Made:
    """What a step or a stage came to.

    Parameters
    ----------
    report
        As a job tells it: steps with exit codes and costs, fate, evidence.
    files
        Output role to the files that passed the gate, in the order of the declaration, scratch files last; those of a
        stage that have a type and are not kept are left out.
    log
        What the steps wrote to stdout and stderr.
    """

    report: JobReport
    files: Mapping[str, Sequence[Path]]
    log: str

    @property
    def ok(self) -> bool:
        """Whether every output was made and passed the gate."""
        return self.report.state is AttemptState.PUBLISHED

    @property
    def fate(self) -> Fate | None:
        """How it ended."""
        return self.report.fate


class PipelineBench:
    """Runs steps of a pipeline as a job would: an empty scratch, only the inputs that are given, the gate at the end.

    Parameters
    ----------
    pipeline
        Its YAML file.
    file_types
        YAML files with the types of its inputs and outputs.
    folder
        An empty folder for what is made, such as pytest's ``tmp_path``.
    containers
        What steps that name an image are run with; ``Containers(runtime="none")`` runs them as they are.

    Raises
    ------
    ConfigErrors
        Where one of the documents is wrong.
    """

    def __init__(
        self,
        pipeline: Path | str,
        file_types: Path | str | Sequence[Path | str],
        folder: Path,
        *,
        containers: Containers | None = None,
    ) -> None:
        several = [file_types] if isinstance(file_types, (str, Path)) else file_types
        self._pipeline = load_pipeline(Path(pipeline).resolve())
        self._types = load_file_types([Path(path).resolve() for path in several])
        self._folder = folder.absolute()
        said, home = containers or Containers(), Path(self._pipeline.directory)
        self._containers = said.model_copy(update={"bind": {**said.bind, str(home): home}})
        self._numbers = count(1)

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline, as it was loaded."""
        return self._pipeline

    def run(
        self,
        stage: str,
        given: Given,
        *,
        step: str | None = None,
        parameters: Mapping[str, Parameter] | None = None,
        data_id: DataId | None = None,
        level: WantedLevel = "standard",
    ) -> Made:
        """Run a stage, or one step of it, on files.

        Parameters
        ----------
        given
            The files of each input role; of one step also those that steps before it would have made.
        step
            Its name; by default every step of the stage.
        parameters
            Beside the defaults of the pipeline.
        data_id
            Of the unit; by default what the files have in common of the dimensions that the stage is run per.
        level
            How closely the steps are watched: ``audit`` for every path that they try.

        Raises
        ------
        UnknownName
            Where there is no such stage, step, role or parameter; with a guess.
        RequestRefused
            Where a role that is needed has no file.
        FileRefused
            Where a file is not what its type says.
        """
        wanted = self._stage(stage, step)
        for name in (parameters or {}).keys() - self._pipeline.parameters.keys():
            raise UnknownName("parameter", name, sorted(self._pipeline.parameters))
        files = self._files(wanted, given)
        own = self._folder / f"run{next(self._numbers)}"
        common = self._common(wanted, own, {**self._pipeline.parameters, **(parameters or {})})
        job = self._job(wanted, files, data_id)
        profile = NodeProfile(
            scratch=own / "scratch", spool=own / "spool", keep_scratch=True, containers=self._containers
        )
        order = render(common, job, 1).model_copy(update={"level": level})
        for store in order.stores.values():
            if store.name != GIVEN:
                Path(store.url).mkdir(parents=True, exist_ok=True)
        with Worker(profile, open_stagers(order.stores, {})) as worker:
            [report] = worker.run([order])
        return self._made(own, report, profile.scratch / token(order.attempt) / OUTPUTS)

    @cached_property
    def _given(self) -> Path:
        folder = self._folder / GIVEN
        folder.mkdir(parents=True)
        return folder

    def _stage(self, name: str, step: str | None) -> Stage:
        known = [stage.name for stage in self._pipeline.stages]
        if name not in known:
            raise UnknownName("stage", name, known)
        stage = self._pipeline.stage(name)
        if step is None:
            return stage
        steps = [each.name for each in stage.steps]
        if step not in steps:
            raise UnknownName("step", step, steps)
        [own] = [each for each in stage.steps if each.name == step]
        made = {role: output.type for each in stage.steps for role, output in each.outputs.items()}
        inputs = {role: stage.inputs.get(role) or Input(type=made[role], max=None) for role in own.inputs}
        kept = {
            role: output.model_copy(update={"to": "backbone"}) if output.to == NOWHERE and output.type else output
            for role, output in own.outputs.items()
        }
        return stage.model_copy(update={"inputs": inputs, "steps": (own.model_copy(update={"outputs": kept}),)})

    def _files(self, stage: Stage, given: Given) -> Mapping[str, tuple[FoundFile, ...]]:
        for role in given:
            if role not in stage.inputs:
                raise UnknownName("input", role, list(stage.inputs))
        found: dict[str, tuple[FoundFile, ...]] = {}
        numbers = count(1)
        for role, declared in stage.inputs.items():
            value = given.get(role, ())
            paths = [Path(value)] if isinstance(value, (str, Path)) else [Path(path) for path in value]
            if len(paths) < declared.min:
                raise RequestRefused(
                    f"input {role!r} of stage {stage.name!r} has {len(paths)} files, and needs {declared.min}",
                    remedy=f"give some: {{{role!r}: [...]}}",
                )
            found[role] = tuple([self._found(next(numbers), path, declared.type) for path in paths])
        return found

    def _found(self, number: int, path: Path, type: str) -> FoundFile:
        if type and type not in self._types:
            raise UnknownName("file type", type, sorted(self._types))
        seen = inspect_file(path, self._types[type] if type else FileType(name="scratch"))
        folder = self._given / f"{number}"
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        shutil.copyfile(path, folder / path.name)
        about = seen.metadata
        return FoundFile(
            number, path.name, type, seen.size_bytes, seen.sha256, about.data_id, about.begins_at, about.ends_at,
            about.values, GIVEN, f"{number}/{path.name}",
        )  # fmt: skip

    def _common(self, stage: Stage, own: Path, parameters: Mapping[str, Parameter]) -> StageCommon:
        outputs = [output for step in stage.steps for output in step.outputs.values()]
        stores = {"backbone", *(output.to for output in outputs)}
        types = {output.type for output in outputs if output.type}
        for name in sorted(types - self._types.keys()):
            raise UnknownName("file type", name, sorted(self._types))
        return StageCommon(
            campaign="bench",
            number=1,
            pipeline=self._pipeline.name,
            pipeline_version=self._pipeline.version,
            pipeline_dir=self._pipeline.directory,
            parameters=parameters,
            stage=stage,
            stores={
                GIVEN: Store(name=GIVEN, url=str(self._given.resolve())),
                **{name: Store(name=name, url=str((own / "made" / name).resolve())) for name in sorted(stores)},
            },
            file_types={name: self._types[name] for name in sorted(types)},
            log_store="backbone",
            rules=("given",),
            origins=dict.fromkeys(stage.inputs, "bench"),
        )

    def _job(self, stage: Stage, files: Mapping[str, tuple[FoundFile, ...]], data_id: DataId | None) -> PlannedJob:
        every = [file for each in files.values() for file in each]
        own = dict(data_id) if data_id is not None else _shared(stage.per, every)
        begins = [file.begins_at for file in every if file.begins_at is not None]
        ends = [file.ends_at for file in every if file.ends_at is not None]
        return PlannedJob(
            unit_name(own, stage.per),
            own,
            min(begins, default=None),
            max(ends, default=None),
            tuple([Choice(role, 0, each) for role, each in files.items()]),
        )

    def _made(self, own: Path, report: JobReport, outputs: Path) -> Made:
        files: dict[str, list[Path]] = {}
        logs: list[Path] = []
        for file in report.published:
            path = own / "made" / file.store / file.path
            if file.step:
                files.setdefault(file.role, []).append(path)
            else:
                logs.append(path)
        typed = {file.name for file in report.made}
        for output in (output for step in report.order.steps for output in step.outputs if not output.type):
            names = sorted(path.name for path in outputs.iterdir() if path.name not in typed)
            if found := [outputs / name for name in names if fnmatchcase(name, output.produces)]:
                files[output.role] = found
        return Made(report, files, "".join(path.read_text(errors="replace") for path in logs))


def _shared(per: Sequence[str], files: Sequence[FoundFile]) -> DataId:
    """Return the keys of a unit in which those of its files agree that have them."""
    found = {key: dict.fromkeys([value for file in files if (value := file.get(key)) is not None]) for key in per}
    return {key: next(iter(each)) for key, each in found.items() if len(each) == 1}
