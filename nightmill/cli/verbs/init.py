"""``nightmill init``: a site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from nightmill.cli.render.output import echo

EXAMPLES: Final = (
    "nightmill init mysite",
    "nightmill init mysite --database 'postgresql+psycopg://user:${PGPASSWORD}@host/nightmill'",
)


def init(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of the site; made where it is missing.")
    ] = Path(),
    database: Annotated[
        str, typer.Option(metavar="URL", help="The catalogue of a new site; by default an SQLite file in its folder.")
    ] = "",
    file_types: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File types of a new site; by default some to begin with. It is copied."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print where everything is as JSON.")] = False,
) -> None:
    """Make a site, or complete one.

    A site is a folder with configuration, stores, and a database with the newest schema. What is there is kept, so do
    it again after a change of the stores, or with a new release.
    """
    from nightmill.backbone.adhoc import ensure_reader
    from nightmill.backbone.database import safe_url
    from nightmill.cli.documents.sites import Site
    from nightmill.cli.render.output import print_error, print_facts, print_json
    from nightmill.errors import RequestRefused
    from nightmill.model.secrets import masked
    from nightmill.operations.init import make_site

    with make_site(directory, database=database, file_types=file_types) as site:
        try:
            ensure_reader(site.database, site.reader_file)
        except RequestRefused as error:
            print_error(error)
        config = site.config
        stores = {name: masked(store.url) for name, store in config.stores.items()}
        url = safe_url(config.database_url)
    if as_json:
        print_json(
            Site(
                site=config.name,
                directory=str(config.directory),
                database=url,
                stores=stores,
                file_types=sorted(config.file_types),
            )
        )
        return
    echo(f"The site {config.name!r} is ready.")
    print_facts(
        [
            ("configuration", config.directory / "nightmill.yaml"),
            ("access", config.access),
            ("database", url),
            *((f"store {name}", url) for name, url in stores.items()),
            ("file types", ", ".join(sorted(config.file_types))),
        ]
    )
