"""The reference says all there is, and no more."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel
from sqlalchemy import inspect, text

import nightmill.errors
from nightmill import plugins
from nightmill.backbone.database import Database
from nightmill.backbone.schema import Base
from nightmill.config.campaign import load_campaign, load_pipeline
from nightmill.config.changes import Defaults
from nightmill.config.error_rules import load_error_rules
from nightmill.config.lookups import GROUP, lookup_named
from nightmill.config.partners import PartnerBody
from nightmill.config.server import ServerConfig
from nightmill.config.site import RetentionConfig, SiteFile, load_site
from nightmill.engines.dask_clusters import DaskOptions, Workers
from nightmill.engines.htcondor import HTCondorOptions
from nightmill.engines.processes import ProcessOptions
from nightmill.engines.slurm import SlurmOptions
from nightmill.errors import NightmillError
from nightmill.expressions import COLUMNS
from nightmill.files.computed import FUNCTIONS
from nightmill.model.breakpoint import Breakpoint, Pilot
from nightmill.model.calibration import Calibration, Maturity
from nightmill.model.campaign import Campaign, ExecutionSettings, Home, Hosts
from nightmill.model.confinement import Confinement
from nightmill.model.container import Containers
from nightmill.model.credential import Credential
from nightmill.model.engine import EngineKind
from nightmill.model.error_rule import ErrorRule
from nightmill.model.fate import Fate
from nightmill.model.file_type import Checks, FileType, Membership, MetadataKey
from nightmill.model.footprint import FootprintKeys, Healpix, Ring, Tiling, TilingMargin
from nightmill.model.index import IndexInput, IndexOutput, StepIndex
from nightmill.model.journal import (
    ENTRY,
    AttemptEntry,
    Cost,
    JournalHeader,
    MadeFile,
    NotStaged,
    Owner,
    SoftwareSeen,
)
from nightmill.model.logs import LogsConfig, LogSink
from nightmill.model.node import NodeProfile, SoftwareRules
from nightmill.model.notification import Mail, Notifier
from nightmill.model.observed import Observation
from nightmill.model.order import (
    AttemptKey,
    JobOrder,
    OrderBundle,
    OrderInput,
    OrderOutput,
    OrderRule,
    OrderStep,
    TakenOutput,
)
from nightmill.model.origin import Origin
from nightmill.model.pipeline import BundleRules, Input, LookupSetting, Output, Pipeline, Resources, Source, Stage, Step
from nightmill.model.relations import Relation
from nightmill.model.retries import FateRetry
from nightmill.model.software import Stack
from nightmill.model.states import AttemptState, Course, Hold, JobState
from nightmill.model.store import Store
from nightmill.operations.audit import Kind
from tests.docs.pages import REFERENCE, Page, all_pages

SCHEMA = Page(REFERENCE / "schema.md")

MODELS: dict[str, dict[str, type[BaseModel]]] = {
    "order.md": {
        each.__name__: each
        for each in (
            JobOrder,
            AttemptKey,
            OrderBundle,
            OrderInput,
            OrderStep,
            OrderRule,
            OrderOutput,
            TakenOutput,
            Store,
        )
    },
    "journal.md": {
        "Header": JournalHeader,
        "Owner": Owner,
        "MadeFile": MadeFile,
        "Cost": Cost,
        "Stack": Stack,
        "Observation": Observation,
    },
    "file-types.md": {each.__name__: each for each in (FileType, MetadataKey, Checks, Membership, FootprintKeys)},
    "pipeline.md": {
        "Bundle": BundleRules,
        **{each.__name__: each for each in (Pipeline, Stage, Input, TilingMargin, Source, Step, Output)},
        **{each.__name__: each for each in (Calibration, Resources)},
        "Retries": FateRetry,
        **{each.__name__: each for each in (StepIndex, IndexInput, IndexOutput)},
    },
    "site.md": {
        "Site": SiteFile,
        "Store": Store,
        "Server": ServerConfig,
        "Retention": RetentionConfig,
        "Notifier": Notifier,
        "Mail": Mail,
        "Partner": PartnerBody,
        "Defaults": Defaults,
        "Credential": Credential,
        "Containers": Containers,
        "Confinement": Confinement,
        "Software": SoftwareRules,
        "Logs": LogsConfig,
        "Sink": LogSink,
        "Engine": EngineKind,
        "Processes": ProcessOptions,
        "Dask": DaskOptions,
        "Workers": Workers,
        "Slurm": SlurmOptions,
        "HTCondor": HTCondorOptions,
        **{each.__name__: each for each in (Tiling, Ring, Healpix)},
    },
    "error-rules.md": {"Rule": ErrorRule},
    "worker.md": {"Profile": NodeProfile},
    "campaign.md": {
        "Campaign": Campaign,
        "Execution": ExecutionSettings,
        "Hosts": Hosts,
        "Home": Home,
        "Breakpoint": Breakpoint,
        "Pilot": Pilot,
    },
}
BESIDE = {("campaign.md", "Campaign"): {"overrides", "calibrations", "inputs", "units"}}
"""Keys of a document that become part of something else when it is loaded."""


@pytest.mark.parametrize(
    ("page", "heading"), [(page, heading) for page, models in MODELS.items() for heading in models]
)
def test_every_key_is_documented(page: str, heading: str) -> None:
    fields = set(MODELS[page][heading].model_fields) | BESIDE.get((page, heading), set())
    named = Page(REFERENCE / page).named(heading)
    assert sorted(named) == sorted(fields)


def test_every_lookup_and_its_options_are_documented() -> None:
    page = Page(REFERENCE / "pipeline.md")
    own = [lookup_named(name) for name in plugins.names(GROUP)]
    options = {key for each in own for key in each.options.model_fields}
    assert {*page.named("Lookup")} == {*LookupSetting.model_fields, *options}
    assert {*page.named("Strategies")} == {each.name for each in own}


@pytest.mark.parametrize("entry", [SoftwareSeen, *AttemptEntry.__args__], ids=lambda entry: str(entry.__name__))
def test_every_journal_entry_is_documented(entry: type[BaseModel]) -> None:
    word = entry.model_fields["entry"].default
    fields = set(entry.model_fields) - {"entry", "attempt", "at"}
    assert set(Page(REFERENCE / "journal.md").named(f"`{word}`")) == fields


def test_example_of_an_order_is_one() -> None:
    [example] = [fence for fence in Page(REFERENCE / "order.md").fences if fence.info == "json order"]
    order = JobOrder.model_validate_json(example.text)
    assert order.steps[0].outputs[0].names == ("nmcam_00005014_01_measured_c0001a01.fits",)


def test_example_of_a_profile_is_one() -> None:
    [text] = [fence.text for fence in Page(REFERENCE / "worker.md").fences if fence.info == "json"]
    assert NodeProfile.model_validate_json(text).cores == 8


def test_example_of_a_journal_is_one() -> None:
    [example] = [fence for fence in Page(REFERENCE / "journal.md").fences if fence.info == "json journal"]
    [order] = [fence for fence in Page(REFERENCE / "order.md").fences if fence.info == "json order"]
    attempt = json.dumps(json.loads(order.text)["attempt"])
    whole = example.text.replace('"order": {...}', f'"order": {json.dumps(json.loads(order.text))}')
    header, *lines = whole.replace("{...}", attempt).splitlines()
    assert JournalHeader.model_validate_json(header).journal == 1
    told = {ENTRY.validate_json(line).entry for line in lines}
    of_a_success = {SoftwareSeen, *AttemptEntry.__args__} - {NotStaged}
    assert told == {each.model_fields["entry"].default for each in of_a_success}


def test_examples_of_the_configuration_load(tmp_path: Path) -> None:
    for page, info, name in [
        ("site.md", "yaml site", "nightmill.yaml"),
        ("file-types.md", "yaml file_types", "file_types.yaml"),
        ("pipeline.md", "yaml pipeline", "pipeline.yaml"),
        ("error-rules.md", "yaml errors", "errors.yaml"),
    ]:
        [example] = [fence for fence in Page(REFERENCE / page).fences if fence.info == info]
        (tmp_path / name).write_text(example.text)
    site = load_site(tmp_path)
    assert set(site.file_types) >= {"raw_science", "master_bias"}
    assert [rule.name for rule in load_error_rules(tmp_path / "errors.yaml")] == ["license"]
    pipeline = load_pipeline(tmp_path / "pipeline.yaml")
    assert [stage.name for stage in pipeline.stages] == ["bias", "flat"]


def test_example_of_a_campaign_loads(tmp_path: Path) -> None:
    [example] = [fence for fence in Page(REFERENCE / "campaign.md").fences if fence.info == "yaml campaign"]
    (tmp_path / "campaign.yaml").write_text(example.text)
    science = {
        "per": ["exposure", "detector"],
        "inputs": {
            "raw": {"type": "raw_science"},
            "bias": {"type": "master_bias", "source": {"calibrations": ["ccd"]}, "lookup": {"strategy": "valid"}},
        },
        "steps": [{"name": "measure", "argv": ["true"], "inputs": ["raw", "bias"]}],
    }
    pipeline = {"pipeline": "p", "version": "1", "parameters": {"threshold": 3.0}, "stages": {"science": science}}
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(pipeline))
    campaign = load_campaign(tmp_path / "campaign.yaml")
    assert campaign.parameters["threshold"] == 5.0
    assert campaign.pipeline.stages[0].inputs["bias"].lookup == LookupSetting.model_validate(
        {"strategy": "nearest", "max_days": 3.0, "files": []}
    )


@pytest.mark.parametrize("table", sorted(Base.metadata.tables))
def test_every_column_is_documented(table: str) -> None:
    assert SCHEMA.named(f"`{table}`") == [column.name for column in Base.metadata.tables[table].columns]


def test_every_view_is_documented(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'nightmill.db'}")
    database.create()
    views = inspect(database.engine).get_view_names()
    columns = {view: [column["name"] for column in inspect(database.engine).get_columns(view)] for view in views}
    database.close()
    assert columns == {view: SCHEMA.named(f"`{view}`") for view in views}
    assert {heading.strip("`") for heading in SCHEMA.headings if heading.startswith("`")} == {
        *Base.metadata.tables,
        *views,
    }


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        ("Origins of a file", Origin),
        ("Maturities of a calibration", Maturity),
        ("States of a job", JobState),
        ("Holds of a job", Hold),
        ("Courses of a campaign", Course),
        ("States of an attempt", AttemptState),
        ("Fates of an attempt", Fate),
        ("Relations", Relation),
    ],
)
def test_every_state_is_documented(heading: str, kind: type[Origin]) -> None:
    rows = SCHEMA.rows(heading)
    assert [row[0].strip("`") for row in rows] == [member.value for member in kind]
    assert all(row[1] for row in rows)


def test_fates_that_a_retry_may_heal_are_told() -> None:
    told = {row[0].strip("`") for row in SCHEMA.rows("Fates of an attempt") if row[2] == "yes"}
    assert told == {fate.value for fate in Fate if fate.retry_may_help}


def test_every_error_is_documented() -> None:
    rows = {row[0].strip("`"): row for row in Page(REFERENCE / "errors.md").rows("Classes")}
    errors = {
        name: value
        for name, value in vars(nightmill.errors).items()
        if isinstance(value, type) and issubclass(value, NightmillError)
    }
    assert rows.keys() == errors.keys()
    for name, error in errors.items():
        _, base, when, exit_code, retry = rows[name]
        told = (base.strip("`"), int(exit_code), retry == "yes")
        assert told == (error.__mro__[1].__name__, error.exit_code, error.retry_may_help), name
        assert when


def test_every_name_of_expressions_is_documented() -> None:
    rows = Page(REFERENCE / "expressions.md").rows("Names")
    assert {row[0].strip("`"): row[2] for row in rows} == {name: kind.value for name, kind in COLUMNS.items()}


def test_every_function_of_file_types_is_documented() -> None:
    named = Page(REFERENCE / "file-types.md").named("Computed keys")
    assert {call.partition("(")[0] for call in named} == set(FUNCTIONS)


def test_sql_of_the_documentation_runs(tmp_path: Path) -> None:
    queries = [(page.name, fence) for page in all_pages() for fence in page.fences if fence.info == "sql"]
    assert queries
    database = Database(f"sqlite:///{tmp_path / 'nightmill.db'}")
    database.create()
    with database.reading() as session:
        for _name, query in queries:
            session.execute(text(query.text)).all()
    database.close()


@pytest.mark.parametrize("page", all_pages(), ids=lambda page: str(page.name))
def test_links_lead_somewhere(page: Page) -> None:
    broken = []
    for target in re.findall(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)", page.prose):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (page.path.parent / file).resolve() if file else page.path
        if not path.exists() or (anchor and anchor not in Page(path).anchors):
            broken.append(target)
    assert broken == []


def test_every_page_is_reached_from_the_index() -> None:
    index = Page(REFERENCE.parent / "index.md")
    linked = {
        (page.path.parent / target.partition("#")[0]).resolve()
        for page in (index, Page(REFERENCE.parent / "decisions" / "README.md"))
        for target in re.findall(r"\]\(([^)\s:]+)\)", page.prose)
    }
    assert {page.name for page in all_pages() if page.path.is_relative_to(REFERENCE.parent)} - {index.name} == {
        Page(path).name for path in linked if path.suffix == ".md" and path.is_relative_to(REFERENCE.parent)
    }


def test_every_contradiction_that_an_audit_names_is_documented() -> None:
    rows = Page(REFERENCE.parent / "how-to" / "recover.md").rows("Is anything left over?")
    assert [row[0].strip("`") for row in rows] == [kind.value for kind in Kind]
