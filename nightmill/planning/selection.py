"""Where the files of each input may come from: raw and manual files, stages, campaigns, calibration sets.

One or two queries an input, whatever the number of units; of a stage that has not run, the files that it is planned
to make stand in. Nothing is ever taken from "the latest" of anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from nightmill.backbone.calibrations import CalibrationFile, current
from nightmill.backbone.catalogue import FoundFile, select_files
from nightmill.backbone.expressions import Expression, evaluate, parse
from nightmill.model.campaign import Campaign
from nightmill.model.fate import Maturity
from nightmill.model.file_type import FileType
from nightmill.model.pipeline import Input
from nightmill.planning.lookups import Candidate


@dataclass(frozen=True, slots=True)
class Group:
    """Candidates from one place; groups of an input are searched in their order.

    Parameters
    ----------
    place
        Where they come from, in words that follow a noun: ``in set ccd``.
    candidates
        What may be chosen.
    drafts
        Calibrations that would be candidates, were they certified.
    """

    place: str
    candidates: tuple[Candidate, ...]
    drafts: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class Selector:
    """Selects the candidates of inputs.

    Parameters
    ----------
    session
        To read the catalogue with.
    campaign
        For whose inputs.
    file_types
        The kinds of files that are known.
    watermark
        The highest file ID that may be seen.
    projected
        By stage and type: what stages that have not run are planned to make.
    """

    session: Session
    campaign: Campaign
    file_types: Mapping[str, FileType]
    watermark: int
    projected: Mapping[str, Mapping[str, Sequence[FoundFile]]]

    def select(self, declared: Input, extra_where: str = "") -> list[Group]:
        """Return the candidates of an input.

        Parameters
        ----------
        declared
            The input.
        extra_where
            A further expression that the files must fulfil (that of the stage, over the files of its units).

        Raises
        ------
        ExpressionError
            Where an expression is wrong.
        """
        source = declared.source
        texts = [declared.where, extra_where]
        if source.calibrations:
            return list(self._calibrations(declared, self._parse(texts)))
        if source.stage:
            place = f"made by stage {source.stage}"
            where = self._parse(texts)
            files = self._of_stage(declared.type, source.stage, where)
        elif source.campaigns:
            place = f"results of campaign {' or '.join(source.campaigns)}"
            where = self._parse(texts)
            files = self._catalogued(declared.type, where, campaigns=source.campaigns)
        else:
            place = "raw or manual"
            texts = [self.campaign.where, *texts]
            where = self._parse(texts)
            files = self._catalogued(declared.type, where)
        return [Group(place + _conditions(texts), tuple([Candidate(file) for file in files]))]

    def _of_stage(self, type_: str, stage: str, where: Sequence[Expression]) -> Iterable[FoundFile]:
        made = self.projected.get(stage)
        if made is None:
            return self._catalogued(type_, where, campaigns=[self.campaign.name], stage=stage)
        return [file for file in made.get(type_, ()) if fulfils(file, where)]

    def _catalogued(
        self, type_: str, where: Sequence[Expression], *, campaigns: Sequence[str] = (), stage: str = ""
    ) -> list[FoundFile]:
        return select_files(
            self.session,
            type=type_,
            where=where,
            campaigns=campaigns,
            stage=stage,
            watermark=self.watermark,
            stored=False,
        )

    def _calibrations(self, declared: Input, where: Sequence[Expression]) -> Iterator[Group]:
        sets = declared.source.calibrations
        found = [
            each
            for each in current(self.session, sets, declared.type)
            if each.maturity is not Maturity.WITHDRAWN and fulfils(each.file, where)
        ]
        for name in sets:
            of_set = [each for each in found if each.set_name == name]
            yield Group(
                f"in set {name}{_conditions([declared.where])}",
                tuple([_candidate(each) for each in of_set if each.maturity is Maturity.CERTIFIED]),
                tuple([_candidate(each) for each in of_set if each.maturity is Maturity.DRAFT]),
            )

    def _parse(self, texts: Iterable[str]) -> list[Expression]:
        keys = {key for file_type in self.file_types.values() for key in file_type.metadata}
        return [parse(text, metadata_keys=keys) for text in texts if text]


def fulfils(file: FoundFile, where: Iterable[Expression]) -> bool:
    """Say whether a file that is not asked of the database fulfils every expression."""
    record = {
        **file.data_id,
        "begins_at": file.begins_at,
        "ends_at": file.ends_at,
        "name": file.name,
        "type": file.type,
        "size_bytes": file.size_bytes,
        "metadata": file.attributes,
    }
    return all(evaluate(expression, record) for expression in where)


def _candidate(calibration: CalibrationFile) -> Candidate:
    return Candidate(calibration.file, calibration.valid_from, calibration.valid_until, calibration.id)


def _conditions(texts: Iterable[str]) -> str:
    given = [text for text in texts if text]
    return f", where {' and '.join(given)}" if given else ""
