"""What is wrong with a plan: all of it, with equal things told once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

EXAMPLES: Final = 3
"""How many units (files, names) one sentence gives as examples."""
REASONS: Final = 12
"""How many reasons one topic may have, each with a sentence of its own, before the rest is only counted."""


@dataclass(slots=True)
class _Cases:
    count: int = 0
    examples: list[str] = field(default_factory=list)


class Problems:
    """Collects the problems of a plan; ten thousand that are alike become one sentence with a count and examples."""

    def __init__(self) -> None:
        self._topics: dict[tuple[str, str], dict[str, _Cases]] = {}

    def __bool__(self) -> bool:
        return bool(self._topics)

    def add(self, topic: str, reason: str, example: str = "", *, detail: str = "", noun: str = "unit") -> None:
        """Add one problem.

        Parameters
        ----------
        topic
            What is concerned, as ``stage 'science', input 'bias'``.
        reason
            What is wrong with it; problems of equal topic and reason are told together.
        example
            Which unit (file, name) it is about.
        detail
            What is true of this example alone.
        noun
            What the examples are, in the singular.
        """
        cases = self._topics.setdefault((topic, noun), {}).setdefault(reason, _Cases())
        cases.count += 1
        if example and len(cases.examples) < EXAMPLES:
            cases.examples.append(f"{example} ({detail})" if detail else example)

    def sentences(self) -> list[str]:
        """Return one sentence a problem, in the order in which they were found first."""
        return [
            sentence for (topic, noun), reasons in self._topics.items() for sentence in _sentences(topic, noun, reasons)
        ]


def _sentences(topic: str, noun: str, reasons: dict[str, _Cases]) -> list[str]:
    told = list(reasons.items())[:REASONS]
    sentences = [f"{topic}: {reason}{_examples(noun, cases)}" for reason, cases in told]
    if left := list(reasons.values())[REASONS:]:
        count = sum(cases.count for cases in left)
        sentences.append(f"{topic}: {count:,} more {plural(noun, count)} with problems of the same kind")
    return sentences


def _examples(noun: str, cases: _Cases) -> str:
    if not cases.examples:
        return ""
    if cases.count == 1:
        return f": {noun} {cases.examples[0]}"
    more = "; ..." if cases.count > len(cases.examples) else ""
    return f": {counted(cases.count, noun)}, as {'; '.join(cases.examples)}{more}"


def plural(noun: str, count: int) -> str:
    """Return the noun in the number that fits the count."""
    return noun if count == 1 else f"{noun}s"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count:,} {plural(noun, count)}"
