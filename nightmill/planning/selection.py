"""Where the files of each input may come from: raw and manual files, stages, campaigns, calibration sets.

One or two queries an input, whatever the number of units; of a stage that has not run, the files that it is planned
to make stand in. Nothing is ever taken from "the latest" of anything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.catalogue.calibrations import current, require_sets
from nightmill.backbone.catalogue.files import found_columns, found_file, found_files, found_rows, selectable, selected
from nightmill.backbone.schema import AttemptRow, FileRow
from nightmill.backbone.sql import to_sql
from nightmill.backbone.work.campaigns import campaign_named
from nightmill.config.rules import NOWHERE
from nightmill.errors import ExpressionError, RequestRefused, UnknownName
from nightmill.expressions import Expression, evaluate, parse
from nightmill.model.calibration import Maturity
from nightmill.model.campaign import Campaign
from nightmill.model.dimensions import KeyType, KeyValue
from nightmill.model.found_file import FoundFile
from nightmill.model.lookup import Candidate
from nightmill.model.pipeline import Input, Source
from nightmill.planning.exclusions import Rules, Tally, record_of
from nightmill.planning.projected import Projected

UNKNOWN_YET: Final = ("origin", "registered_at")
"""What an expression cannot ask where files are looked at in memory."""


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
    keys
        Every key that files of the site may have, with its type.
    watermark
        The highest file ID that may be seen.
    projected
        By stage: what stages that have not run are planned to make.
    as_of
        The time whose catalogue is asked; None for now.
    """

    session: Session
    campaign: Campaign
    keys: Mapping[str, KeyType]
    watermark: int
    projected: Mapping[str, Projected]
    as_of: datetime | None = None

    def select(
        self, declared: Input, tally: Tally, extra_where: str = "", names: Collection[str] | None = None
    ) -> list[Group]:
        """Return the candidates of an input.

        Parameters
        ----------
        declared
            The input.
        tally
            Of what is excluded from it.
        extra_where
            A further expression that the files must fulfil (that of the stage, over the files of its units).
        names
            The only files that a lookup chooses from, wherever they are where there are no calibration sets.

        Raises
        ------
        ExpressionError
            Where an expression is wrong.
        UnknownName
            Where there is no such campaign, stage in any of the campaigns, or calibration set.
        RequestRefused
            Where the stage keeps no files of the type.
        """
        texts = [text for text in (declared.where, extra_where) if text]
        if declared.source.calibrations:
            return list(self._calibrations(declared, tally, texts))
        if names is not None:
            place, files = f"of the catalogue{_conditions(texts)}", self._listed(declared.type, tally, names, texts)
        else:
            place, files = self._from(declared, tally, texts)
        return [Group(place, tuple([Candidate(file) for file in files]))]

    def stream(
        self, declared: Input, tally: Tally, extra_where: str, per: Sequence[str]
    ) -> tuple[str, Iterator[FoundFile]]:
        """Say where the files of an input come from that make the units of a stage, and give them one by one.

        Parameters
        ----------
        tally, extra_where
            As in :meth:`select`, which raises the same.
        per
            The keys by whose values they come. Those that lack one are anywhere among them.
        """
        return self._from(declared, tally, [text for text in (declared.where, extra_where) if text], per)

    def _from(
        self, declared: Input, tally: Tally, texts: Sequence[str], order: Sequence[str] = ()
    ) -> tuple[str, Iterator[FoundFile]]:
        source, type_ = declared.source, declared.type
        if source.own_stage:
            place, files = f"made by stage {source.stage}", self._of_stage(type_, tally, source.stage, texts, order)
        elif source.campaigns:
            self._require_campaigns(type_, source)
            of_stage = f"made by stage {source.stage}" if source.stage else "results"
            place = f"{of_stage} of campaign {' or '.join(source.campaigns)}"
            files = self._catalogued(type_, tally, texts, order, campaigns=source.campaigns, stage=source.stage)
        else:
            texts = [text for text in (self.campaign.where, *texts) if text]
            place, files = "raw or manual", self._catalogued(type_, tally, texts, order)
        return place + _conditions(texts), files

    def _require_campaigns(self, type_: str, source: Source) -> None:
        """Make sure that there are the campaigns of a source, and in one of them its stage, which keeps such files."""
        rows = [campaign_named(self.session, name, as_of=self.as_of) for name in source.campaigns]
        if not source.stage:
            return
        kept: dict[str, set[str]] = {}
        for stage in (each for row in rows for each in Campaign.model_validate(row.definition).pipeline.stages):
            outputs = [output for step in stage.steps for output in step.outputs.values() if output.to != NOWHERE]
            kept.setdefault(stage.name, set()).update(output.type for output in outputs)
        of = f"of campaign {' or '.join(source.campaigns)}"
        if source.stage not in kept:
            raise UnknownName(f"stage {of}", source.stage, list(kept), remedy=f"there is {', '.join(kept)}")
        if type_ not in (types := sorted(kept[source.stage])):
            makes = f"it makes {', '.join(types)}" if types else "it keeps nothing"
            raise RequestRefused(f"stage {source.stage!r} {of} keeps no files of type {type_!r}", remedy=makes)

    def _of_stage(
        self, type_: str, tally: Tally, stage: str, texts: Sequence[str], order: Sequence[str]
    ) -> Iterator[FoundFile]:
        made = self.projected.get(stage)
        if made is None:
            return self._catalogued(type_, tally, texts, order, campaigns=[self.campaign.name], stage=stage)
        where = self._parse(texts, unknown=UNKNOWN_YET)
        files = (file for file in made.files(type_) if fulfils(file, where))
        if rules := tally.of_type(type_):
            judged = (tally.judge(rules, file, rules.asked_of(file)) for file in files)
            files = (file for file in judged if file is not None)
        return files if made.in_order_of(order) else _sorted(files, order)

    def _catalogued(
        self,
        type_: str,
        tally: Tally,
        texts: Sequence[str],
        order: Sequence[str],
        *,
        campaigns: Sequence[str] = (),
        stage: str = "",
    ) -> Iterator[FoundFile]:
        query = selected(
            self.session,
            type=type_,
            where=self._parse(texts),
            campaigns=campaigns,
            stage=stage,
            watermark=self.watermark,
            stored=False,
            order={key: self.keys[key] for key in order if key in self.keys},
            as_of=self.as_of,
        )
        return self._kept(query, tally, tally.of_type(type_))

    def _listed(self, type_: str, tally: Tally, names: Collection[str], texts: Sequence[str]) -> Iterator[FoundFile]:
        query = (
            found_columns(self.session, stored=False)
            .outerjoin(AttemptRow, FileRow.attempt_id == AttemptRow.id)
            .where(selectable(self.as_of), FileRow.type == type_, FileRow.id <= self.watermark)
            .where(among(FileRow.name, names))
        )
        for expression in self._parse(texts):
            query = query.where(to_sql(expression))
        return self._kept(query, tally, tally.of_type(type_))

    def _kept(self, query: Select[Any], tally: Tally, rules: Rules) -> Iterator[FoundFile]:
        """Yield the files of a query that are not excluded."""
        if not rules:
            yield from found_files(self.session, query)
            return
        columns = rules.columns()
        for row in found_rows(self.session, query.add_columns(*columns)):
            if (file := tally.judge(rules, found_file(row), row[-len(columns) :])) is not None:
                yield file

    def _calibrations(self, declared: Input, tally: Tally, texts: Sequence[str]) -> Iterator[Group]:
        sets = declared.source.calibrations
        where = self._parse(texts, unknown=UNKNOWN_YET)
        context = declared.source.context
        found = current(self.session, sets, declared.type, context=context, as_of=self.as_of)
        require_sets(self.session, sets, as_of=self.as_of)
        rules = tally.of_type(declared.type)
        about = rules.matches(self.session, {each.file.id for each in found})
        for name in sets:
            by_maturity: dict[Maturity, list[Candidate]] = {maturity: [] for maturity in Maturity}
            for each in found:
                if each.set_name != name or not fulfils(each.file, where):
                    continue
                asked = about.get(each.file.id)
                file = each.file if asked is None else tally.judge(rules, each.file, asked)
                if file is not None:
                    by_maturity[each.maturity].append(Candidate(file, each.valid_from, each.valid_until, each.id))
            yield Group(
                f"in set {name}{f' of context {context}' if context else ''}{_conditions(texts)}",
                tuple(by_maturity[Maturity.CERTIFIED]),
                tuple(by_maturity[Maturity.DRAFT]),
            )

    def _parse(self, texts: Iterable[str], *, unknown: Collection[str] = ()) -> list[Expression]:
        """Parse expressions; refuse what of a file cannot be known where it is asked."""
        expressions = [parse(text, metadata_keys=self.keys) for text in texts]
        for expression in expressions:
            for name in expression.names & set(unknown):
                raise ExpressionError(
                    f"{name} cannot be asked of calibrations, nor of files that are yet to be made",
                    text=expression.text,
                    remedy="ask for dimensions, times, name or size",
                )
        return expressions


def fulfils(file: FoundFile, where: Iterable[Expression]) -> bool:
    """Say whether a file that is not asked of the database fulfils every expression."""
    record = record_of(file)
    return all(evaluate(expression, record) for expression in where)


def _sorted(files: Iterable[FoundFile], order: Sequence[str]) -> Iterator[FoundFile]:
    """Yield files in the order of the values of keys, those that lack one before them."""
    whole = []
    for file in files:
        if any(file.get(key) is None for key in order):
            yield file
        else:
            whole.append(file)
    yield from sorted(whole, key=lambda file: [_sortable(file.get(key)) for key in order])


def _sortable(value: KeyValue | None) -> tuple[bool, KeyValue | None]:
    """Keep texts from being compared with numbers, where a key was of another type before."""
    return isinstance(value, str), value


def _conditions(texts: Sequence[str]) -> str:
    return f", where {' and '.join(texts)}" if texts else ""
