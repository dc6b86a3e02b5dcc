"""The one expression grammar over files: parsed once, carried out by the database or in Python, with one meaning.

    night == 20260110 and detector in [1, 2] and exposure_seconds > 30 and like(name, "c4d_%")

A comparison has a name on one side and a constant on the other. Names are the columns of a file (``COLUMNS``); every
other name, and ``metadata.NAME``, is a key of its metadata. The logic is that of SQL: a value that is missing, or is of
another type than the constant, makes a comparison unknown, and a file is selected where the whole is true. Nothing is
ever executed: the text is parsed as Python, and what is not in the grammar is refused.
"""

from __future__ import annotations

from nightmill.expressions.parser import parse
from nightmill.expressions.record import evaluate
from nightmill.expressions.terms import COLUMNS, Expression, Kind

__all__ = ["COLUMNS", "Expression", "Kind", "evaluate", "parse"]
