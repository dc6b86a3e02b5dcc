"""Orders: what was sealed of a job, with one attempt's number, becomes everything that the attempt may know."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Final

from nightmill.config.rules import NOWHERE
from nightmill.model.layout import BUNDLE, INPUTS, OUTPUTS, seen
from nightmill.model.order import AttemptKey, Copy, JobOrder, OrderInput, OrderOutput, OrderStep
from nightmill.model.pipeline import Output, Parameter, Step
from nightmill.planning.outputs import log_name, output_names
from nightmill.planning.sealed import PlannedJob, StageCommon, planned_inputs

JOBS_PER_FOLDER: Final = 1000

_PLACEHOLDER: Final = re.compile(r"\{(inputs|outputs|parameters|unit)\.([A-Za-z0-9_-]+)\}|\{(pipeline_dir)\}")


def canonical(order: JobOrder) -> bytes:
    """Return an order as JSON without the keys that are left at their default: one that is new changes no old order."""
    return order.model_dump_json(exclude_defaults=True).encode()


def order_sha256(order: JobOrder) -> str:
    """Return the digest of an order, by which an attempt and its journal are known to speak of the same one."""
    return sha256(canonical(order)).hexdigest()


def render(common: StageCommon, job: PlannedJob, number: int, *, plan_sha256: str = "") -> JobOrder:
    """Render the order of one attempt.

    Parameters
    ----------
    common
        The sealed common part of the stage.
    job
        As it was sealed, each of its files with the copy to stage.
    number
        Of the attempt.
    plan_sha256
        Digest of the sealed plan.
    """
    return _Renderer(common, job, number).order(plan_sha256)


@dataclass(frozen=True, slots=True)
class _Text:
    """What a placeholder stands for in an argv: some file names, or one value; None where there is nothing."""

    files: tuple[str, ...] | None = None
    value: Parameter | None = None


class _Renderer:
    def __init__(self, common: StageCommon, job: PlannedJob, number: int) -> None:
        self.common = common
        self.stage = common.stage
        self.job = job
        self.key = AttemptKey(campaign=common.campaign, stage=self.stage.name, unit=job.unit, number=number)
        self.staged = {choice.role: choice.files for choice in job.choices}
        self.made: dict[str, tuple[str, ...]] = {}

    def order(self, plan_sha256: str) -> JobOrder:
        common = self.common
        inputs = tuple(self.inputs())
        steps = tuple([self.step(step) for step in self.stage.steps])
        stores = {copy.store for file in inputs for copy in file.copies} | {
            output.store for step in steps for output in step.outputs
        }
        stores |= {common.log_store} | ({common.bundle.store} if common.bundle else set())
        types = {output.type for step in steps for output in step.outputs}
        return JobOrder(
            attempt=self.key,
            data_id=self.job.data_id,
            begins_at=self.job.begins_at,
            ends_at=self.job.ends_at,
            pipeline=common.pipeline,
            pipeline_version=common.pipeline_version,
            pipeline_dir=common.pipeline_dir,
            bundle=common.bundle,
            plan_sha256=plan_sha256,
            parameters=common.parameters,
            stores={name: store for name, store in common.stores.items() if name in stores},
            file_types={name: common.file_types[name] for name in sorted(types)},
            inputs=inputs,
            steps=steps,
            log_name=log_name(common, self.job.data_id, self.key.number),
            log_store=common.log_store,
            log_directory=self.directory(),
            resources=self.stage.resources,
        )

    def inputs(self) -> Iterator[OrderInput]:
        """Yield every file that is to be staged, once, under the first role that wants it."""
        roles: dict[int, dict[str, None]] = {}
        for role, files in self.staged.items():
            for file in files:
                roles.setdefault(file.id, {})[role] = None
        seen: set[int] = set()
        for role, rule, _origin, files in planned_inputs(self.common, self.job):
            for file in files:
                if file.id not in seen:
                    seen.add(file.id)
                    yield OrderInput(
                        role=role,
                        name=file.name,
                        type=file.type,
                        size_bytes=file.size_bytes,
                        sha256=file.sha256,
                        store=file.store,
                        path=file.path,
                        data_id=file.data_id,
                        rule=rule,
                        also=tuple([Copy(store=store, path=path) for store, path in file.also]),
                        more_roles=tuple(roles[file.id])[1:],
                    )

    def step(self, step: Step) -> OrderStep:
        outputs = tuple([self.output(step, role, output) for role, output in step.outputs.items()])
        own = {output.role: output.names for output in outputs}
        rendered = OrderStep(
            name=step.name,
            argv=tuple(self.call(step, own) if step.call else self.argv(step.argv, own)),
            inputs=tuple([name for role in step.inputs for name in self.names_of(role)]),
            outputs=outputs,
            environment=self.environment(step, own),
            wall_seconds=step.wall_seconds,
            software=step.software,
        )
        self.made |= own
        return rendered

    def output(self, step: Step, role: str, output: Output) -> OrderOutput:
        kept = output.to != NOWHERE
        valid_from, valid_until = self.validity(output)
        return OrderOutput(
            role=role,
            type=output.type,
            names=output_names(self.common, self.job.data_id, self.key.number, step.name, role),
            data_id=self.job.data_id,
            required=output.required,
            produces=output.produces,
            min=output.min,
            store=output.to if kept else "",
            directory=self.directory() if kept else "",
            calibration=output.calibration,
            valid_from=valid_from,
            valid_until=valid_until,
        )

    def validity(self, output: Output) -> tuple[str, str]:
        begins_at, ends_at = self.job.begins_at, self.job.ends_at
        if output.calibration is None or begins_at is None or ends_at is None:
            return "", ""
        valid_from = begins_at - timedelta(days=output.calibration.valid_days_before)
        valid_until = ends_at + timedelta(days=output.calibration.valid_days_after)
        return valid_from.isoformat(), valid_until.isoformat()

    def directory(self) -> str:
        """Return the folder of the job's files below a store: a subfolder for each further thousand of jobs."""
        folder = f"{self.common.campaign}/{self.stage.name}"
        thousand = self.job.number // JOBS_PER_FOLDER
        return f"{folder}/{thousand:03d}" if thousand else folder

    def names_of(self, role: str) -> tuple[str, ...]:
        if role in self.stage.inputs:
            return tuple([file.name for file in self.staged[role]])
        return self.made[role]

    def paths_of(self, role: str) -> tuple[str, ...]:
        folder = seen(INPUTS if role in self.stage.inputs else OUTPUTS)
        return tuple([f"{folder}/{name}" for name in self.names_of(role)])

    def meaning(self, match: re.Match[str], own: Mapping[str, tuple[str, ...]]) -> _Text:
        kind, name, folder = match.groups()
        if folder:
            return _Text(value=seen(BUNDLE) if self.common.bundle else self.common.pipeline_dir)
        if kind == "inputs":
            return _Text(files=self.paths_of(name))
        if kind == "outputs":
            return _Text(files=own[name])
        values: Mapping[str, Parameter] = self.common.parameters if kind == "parameters" else self.job.data_id
        return _Text(value=values[name])

    def argv(self, items: Iterable[str], own: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
        for item in items:
            whole = _PLACEHOLDER.fullmatch(item)
            if whole is not None and (files := self.meaning(whole, own).files) is not None:
                yield from files
            elif (text := self.fill(item, own)) is not None:
                yield text

    def fill(self, text: str, own: Mapping[str, tuple[str, ...]]) -> str | None:
        """Fill the placeholders of a text; None where one stands for an optional input that is not there."""
        meanings = [self.meaning(match, own) for match in _PLACEHOLDER.finditer(text)]
        if any(meaning.files == () for meaning in meanings):
            return None
        filled = iter([meaning.files[0] if meaning.files else as_text(meaning.value) for meaning in meanings])
        return _PLACEHOLDER.sub(lambda _match: next(filled), text)

    def environment(self, step: Step, own: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
        filled = {name: self.fill(text, own) for name, text in step.environment.items()}
        return {name: text for name, text in filled.items() if text is not None}

    def call(self, step: Step, own: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        arguments = {name: self.argument(text, own) for name, text in step.arguments.items()}
        return ("{python}", "-m", "nightmill.execution.call", step.call, json.dumps(arguments))

    def argument(self, text: str, own: Mapping[str, tuple[str, ...]]) -> object:
        """Give an argument of a call its value: a list where a role may have several files, else one value."""
        whole = _PLACEHOLDER.fullmatch(text)
        if whole is None:
            return self.fill(text, own)
        meaning = self.meaning(whole, own)
        if meaning.files is None:
            return meaning.value
        if self.may_be_several(whole[2], own):
            return list(meaning.files)
        return meaning.files[0] if meaning.files else None

    def may_be_several(self, role: str, own: Mapping[str, tuple[str, ...]]) -> bool:
        declared = self.stage.inputs.get(role)
        if declared is None:
            return len(own.get(role) or self.made[role]) > 1
        return declared.max is None or declared.max > 1


def as_text(value: Parameter | None) -> str:
    """Write a value as an item of a command line: booleans as in YAML."""
    return str(value).lower() if isinstance(value, bool) else str(value)
