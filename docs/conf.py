"""How Sphinx makes a site of these pages: ``make docs``."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from sphinx.application import Sphinx

import nightmill

project = "nightmill"
author = "nightmill developers"
release = version = nightmill.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
exclude_patterns = ["_build", "images"]

html_theme = "furo"
html_title = f"nightmill {release}"

# Links to headings are written as a plain git host wants them: `page.md#a-heading`.
myst_heading_anchors = 4

autodoc_default_options = {"exclude-members": "model_config"}
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
numpydoc_show_class_members = False  # autodoc shows them

nitpicky = True
nitpick_ignore_regex = [
    # The documentation of others is not asked for while the site is built, which takes no network.
    ("py:.*", r"(collections\.abc|datetime|hashlib|os|pathlib|re|tuple|types)\b.*"),
    ("py:.*", r"(annotated_types|astropy|pydantic|pytest|sqlalchemy)\..*"),
    ("py:class", r"Field|Ge|Le|NoneType|Path|TypeAdapter"),
    # Names of unions and type variables, which are taken for classes.
    (
        "py:class",
        r"Access|Entry|FieldInfo|Junk|SINK_NAME|StringConstraints|re2\._Regexp|KeyType|KeyValue|MetadataValue|Parameter|Retries|Tries|nightmill\.model\.(base\.(Key|Value)|lookup\.Options)",
    ),
    # Rows of the database, whose columns stand in reference/schema.md.
    ("py:class", r"nightmill\.backbone\..*|nightmill\.operations\.find\.CataloguedFile|provenance\.history\..*"),
]
suppress_warnings = [
    "misc.highlighting_failure",  # JSON that is shown in part, with `...` for the rest, is not JSON
    "ref.python",  # the builtin `type` in an annotation, which many models have as a key
]


def without_keys(_app: Sphinx, kind: str, _name: str, thing: Any, *_: Any) -> tuple[str, None] | None:
    """Leave out the signature of a model: its keys stand below it, each with its type and what it means."""
    return ("", None) if kind == "class" and issubclass(thing, BaseModel) else None


def setup(app: Sphinx) -> None:
    """Connect what is special here."""
    app.connect("autodoc-process-signature", without_keys)
