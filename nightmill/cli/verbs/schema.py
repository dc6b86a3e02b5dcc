"""``nightmill schema``: what may stand in a document, for editors."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from nightmill.config.kinds import Kind

EXAMPLES: Final = ("nightmill schema pipeline > pipeline.json",)


def schema(document: Annotated[Kind, typer.Argument(help="Which document.", show_default=False)]) -> None:
    """Print the JSON Schema of a YAML document.

    With the formats, checks and lookups of the packages that are installed. 'nightmill init' writes all of them into
    .nightmill/schemas of the site.
    """
    from nightmill.config.schema import schema_text

    typer.echo(schema_text(document), nl=False)
