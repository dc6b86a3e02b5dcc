"""What is wrong with the breakpoints of a campaign, with where it stands."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from nightmill.config.layers import Tree
from nightmill.errors import ConfigError, ExpressionError, guess
from nightmill.expressions import parse
from nightmill.model.breakpoint import COMPARED, COUNTS, Breakpoint


def wrong_breakpoints(
    breakpoints: Sequence[Breakpoint], campaign: str, stages: Collection[str], tree: Tree
) -> Iterator[ConfigError]:
    """Yield what is wrong with breakpoints.

    Parameters
    ----------
    campaign
        Name of the campaign that has them.
    stages
        Those of its pipeline.
    """
    names = [each.name for each in breakpoints]
    for number, each in enumerate(breakpoints):
        key = ("breakpoints", number)
        if each.stage not in stages:
            told = f"the pipeline has no stage {each.stage!r}{guess(each.stage, list(stages))}"
            yield ConfigError(told, where=tree.where(key))
        if each.name in names[:number]:
            yield ConfigError(f"breakpoint {each.name!r} stands there twice", where=tree.where(key))
        if each.against == campaign:
            told = f"breakpoint {each.name!r} is compared with its own campaign; name another in 'against'"
            yield ConfigError(told, where=tree.where((*key, "against")))
        for told in _wrong_rule(each):
            yield ConfigError(f"rule of breakpoint {each.name!r}: {told}", where=tree.where((*key, "rule")))


def _wrong_rule(breakpoint: Breakpoint) -> Iterator[str]:
    if not breakpoint.rule:
        return
    try:
        names = {name.removeprefix("metadata.") for name in parse(breakpoint.rule).names}
    except ExpressionError as error:
        yield str(error)
        return
    for name in sorted(names - set(COUNTS)):
        may = ", ".join(COUNTS)
        yield f"{name!r} is not a count that a rule may ask for{guess(name, COUNTS)}: it may ask for {may}"
    if not breakpoint.against and (compared := sorted(names & set(COMPARED))):
        yield f"{', '.join(compared)} counts files that are compared; say in 'against' with which campaign"
