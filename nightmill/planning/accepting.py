"""Which rules of its site stand in an order: those that accept exit codes of its steps, and those asked before them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

from nightmill.backbone.catalogue.error_rules import KnownError, in_order
from nightmill.model.fate import Fate
from nightmill.model.order import ErrorName, JobOrder, OrderRule


class Accepting:
    """Puts rules into the orders of a site.

    Parameters
    ----------
    errors
        The rules that hold, in any order; or all those of one order, which gives the same.
    """

    def __init__(self, errors: Collection[KnownError]) -> None:
        accepts = any(error.rule.action == "accept" for error in errors)
        self._errors = in_order(list(errors)) if accepts else []
        self._found: dict[tuple[str, str], Sequence[KnownError]] = {}

    def put_in(self, order: JobOrder) -> tuple[JobOrder, list[int] | None]:
        """Return an order with the rules that fit its steps, and their IDs; the same and None where none accepts."""
        if not self._errors:
            return order, None
        rules = [self._of(order.attempt.stage, step.name) for step in order.steps]
        if not any(rules):
            return order, None
        steps = tuple(
            step.model_copy(update={"rules": tuple(map(_told, own))})
            for step, own in zip(order.steps, rules, strict=True)
        )
        return order.model_copy(update={"steps": steps}), sorted({error.id for own in rules for error in own})

    def _of(self, stage: str, step: str) -> Sequence[KnownError]:
        """Return the rules that are asked when a step exits with an error, up to the last that accepts."""
        if (found := self._found.get((stage, step))) is None:
            fit = [error for error in self._errors if _may_fit(error, stage, step)]
            while fit and fit[-1].rule.action != "accept":
                fit.pop()
            found = self._found[stage, step] = fit
        return found


def _may_fit(error: KnownError, stage: str, step: str) -> bool:
    rule = error.rule
    return (
        (not rule.fates or Fate.STEP_FAILED in rule.fates)
        and (not rule.step or fnmatchcase(step, rule.step))
        and (not rule.stage or fnmatchcase(stage, rule.stage))
    )


def _told(error: KnownError) -> OrderRule:
    called, rule = ErrorName(error=error.rule.name, version=error.version), error.rule
    return OrderRule(called=called, exit=rule.exit, says=rule.says, accepts=rule.action == "accept")
