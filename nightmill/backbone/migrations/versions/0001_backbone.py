"""The first schema: files and copies, calibrations, campaigns to executions, relations.

A migration is a record of the day it was written: it names its types itself and never follows the schema.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
ORDERED_JSON = sa.JSON()
TIME = sa.DateTime(timezone=True)

TABLES = (
    "replica",
    "planned_input",
    "input_use",
    "generation",
    "calibration",
    "file",
    "execution",
    "delivery",
    "attempt",
    "job",
    "slice",
    "plan",
    "store",
    "software",
    "refusal",
    "lease",
    "campaign",
    "audit",
)


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", KEY, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("detail", JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_subject_at"), "audit", ["subject", "at"], unique=False)
    op.create_table(
        "campaign",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("pipeline", sa.Text(), nullable=False),
        sa.Column("pipeline_version", sa.Text(), nullable=False),
        sa.Column("definition", ORDERED_JSON, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("submitted_at", TIME, nullable=False),
        sa.Column("submitted_by", sa.Text(), nullable=False),
        sa.Column("flow_run_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaign")),
        sa.UniqueConstraint("name", name=op.f("uq_campaign_name")),
    )
    op.create_table(
        "lease",
        sa.Column("id", KEY, nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("flow_run_id", sa.Text(), nullable=True),
        sa.Column("taken_at", TIME, nullable=False),
        sa.Column("released_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lease")),
    )
    op.create_table(
        "refusal",
        sa.Column("id", KEY, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("origin", sa.String(length=8), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refusal")),
    )
    op.create_index(op.f("ix_refusal_path"), "refusal", ["path"], unique=False)
    op.create_index(op.f("ix_refusal_reason_at"), "refusal", ["reason", "at"], unique=False)
    op.create_table(
        "software",
        sa.Column("id", KEY, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("packages", JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_software")),
        sa.UniqueConstraint("sha256", name=op.f("uq_software_sha256")),
    )
    op.create_table(
        "store",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_store")),
        sa.UniqueConstraint("name", name=op.f("uq_store_name")),
    )
    op.create_table(
        "plan",
        sa.Column("id", KEY, nullable=False),
        sa.Column("campaign_id", KEY, nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("watermark", sa.BigInteger(), nullable=False),
        sa.Column("common", ORDERED_JSON, nullable=False),
        sa.Column("sealed_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name=op.f("fk_plan_campaign_id_campaign")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plan")),
        sa.UniqueConstraint("campaign_id", "stage", "revision", name=op.f("uq_plan_campaign_id_stage_revision")),
    )
    op.create_table(
        "slice",
        sa.Column("id", KEY, nullable=False),
        sa.Column("plan_id", KEY, nullable=False),
        sa.Column("campaign_id", KEY, nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("flow_run_id", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name=op.f("fk_slice_campaign_id_campaign")),
        sa.ForeignKeyConstraint(["plan_id"], ["plan.id"], name=op.f("fk_slice_plan_id_plan")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_slice")),
        sa.UniqueConstraint("campaign_id", "stage", "number", name=op.f("uq_slice_campaign_id_stage_number")),
    )
    op.create_table(
        "job",
        sa.Column("id", KEY, nullable=False),
        sa.Column("campaign_id", KEY, nullable=False),
        sa.Column("plan_id", KEY, nullable=False),
        sa.Column("slice_id", KEY, nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("detail", ORDERED_JSON, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("stale", sa.Boolean(), nullable=False),
        sa.CheckConstraint(
            "state IN ('planned', 'held', 'ready', 'active', 'done', 'failed', 'cancelled')",
            name=op.f("ck_job_state"),
        ),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name=op.f("fk_job_campaign_id_campaign")),
        sa.ForeignKeyConstraint(["plan_id"], ["plan.id"], name=op.f("fk_job_plan_id_plan")),
        sa.ForeignKeyConstraint(["slice_id"], ["slice.id"], name=op.f("fk_job_slice_id_slice")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
        sa.UniqueConstraint("campaign_id", "stage", "unit", name=op.f("uq_job_campaign_id_stage_unit")),
    )
    op.create_index(op.f("ix_job_campaign_id_state"), "job", ["campaign_id", "state"], unique=False)
    op.create_index(op.f("ix_job_slice_id_state"), "job", ["slice_id", "state"], unique=False)
    op.create_table(
        "attempt",
        sa.Column("id", KEY, nullable=False),
        sa.Column("job_id", KEY, nullable=False),
        sa.Column("plan_id", KEY, nullable=False),
        sa.Column("lease_id", KEY, nullable=True),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("fate", sa.String(length=24), nullable=True),
        sa.Column("failed_step", sa.Text(), nullable=True),
        sa.Column("evidence", sa.Text(), nullable=True),
        sa.Column("order_sha256", sa.String(length=64), nullable=False),
        sa.Column("host", sa.Text(), nullable=True),
        sa.Column("issued_at", TIME, nullable=False),
        sa.Column("began_at", TIME, nullable=True),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("adopted", sa.Boolean(), nullable=False),
        sa.Column("result", sa.Boolean(), nullable=False),
        sa.CheckConstraint("NOT result OR state = 'published'", name=op.f("ck_attempt_result_is_published")),
        sa.CheckConstraint(
            "fate IN ('published', 'input_missing', 'input_corrupt', 'step_failed', 'step_killed', 'step_not_started', "
            "'wall_limit', 'missing_output', 'bad_output', 'name_collision', "
            "'no_space', 'store_error', 'cancelled', 'lost')",
            name=op.f("ck_attempt_fate"),
        ),
        sa.CheckConstraint(
            "state IN ('issued', 'staging_in', 'running', 'checking', "
            "'publishing', 'published', 'failed', 'cancelled', 'lost')",
            name=op.f("ck_attempt_state"),
        ),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_attempt_job_id_job")),
        sa.ForeignKeyConstraint(["lease_id"], ["lease.id"], name=op.f("fk_attempt_lease_id_lease")),
        sa.ForeignKeyConstraint(["plan_id"], ["plan.id"], name=op.f("fk_attempt_plan_id_plan")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempt")),
        sa.UniqueConstraint("job_id", "number", name=op.f("uq_attempt_job_id_number")),
    )
    op.create_index(op.f("ix_attempt_lease_id"), "attempt", ["lease_id"], unique=False)
    op.create_index(op.f("ix_attempt_state"), "attempt", ["state"], unique=False)
    op.create_index(
        "uq_attempt_result",
        "attempt",
        ["job_id"],
        unique=True,
        sqlite_where=sa.text("result"),
        postgresql_where=sa.text("result"),
    )
    op.create_table(
        "delivery",
        sa.Column("id", KEY, nullable=False),
        sa.Column("attempt_id", KEY, nullable=False),
        sa.Column("area", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempt.id"], name=op.f("fk_delivery_attempt_id_attempt")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery")),
        sa.UniqueConstraint("area", "path", name=op.f("uq_delivery_area_path")),
    )
    op.create_index(op.f("ix_delivery_attempt_id"), "delivery", ["attempt_id"], unique=False)
    op.create_table(
        "execution",
        sa.Column("id", KEY, nullable=False),
        sa.Column("attempt_id", KEY, nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("argv", JSON, nullable=False),
        sa.Column("environment", JSON, nullable=False),
        sa.Column("software_id", KEY, nullable=True),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("began_at", TIME, nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("signal", sa.Integer(), nullable=True),
        sa.Column("wall_seconds", sa.Double(), nullable=True),
        sa.Column("user_seconds", sa.Double(), nullable=True),
        sa.Column("system_seconds", sa.Double(), nullable=True),
        sa.Column("max_rss_bytes", sa.BigInteger(), nullable=True),
        sa.Column("read_bytes", sa.BigInteger(), nullable=True),
        sa.Column("written_bytes", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("state IN ('running', 'succeeded', 'failed', 'lost')", name=op.f("ck_execution_state")),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempt.id"], name=op.f("fk_execution_attempt_id_attempt")),
        sa.ForeignKeyConstraint(["software_id"], ["software.id"], name=op.f("fk_execution_software_id_software")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_execution")),
        sa.UniqueConstraint("attempt_id", "position", name=op.f("uq_execution_attempt_id_position")),
    )
    op.create_index(op.f("ix_execution_step_host"), "execution", ["step", "host"], unique=False)
    op.create_table(
        "file",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("compression", sa.String(length=16), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("origin", sa.String(length=8), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("instrument", sa.Text(), nullable=True),
        sa.Column("night", sa.Integer(), nullable=True),
        sa.Column("exposure", sa.BigInteger(), nullable=True),
        sa.Column("detector", sa.Integer(), nullable=True),
        sa.Column("band", sa.Text(), nullable=True),
        sa.Column("tile", sa.Text(), nullable=True),
        sa.Column("run", sa.Text(), nullable=True),
        sa.Column("begins_at", TIME, nullable=True),
        sa.Column("ends_at", TIME, nullable=True),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("original_name", sa.Text(), nullable=True),
        sa.Column("provenance", sa.Text(), nullable=True),
        sa.Column("attempt_id", KEY, nullable=True),
        sa.Column("registered_at", TIME, nullable=False),
        sa.Column("registered_by", sa.Text(), nullable=False),
        sa.CheckConstraint("(origin = 'batch') = (attempt_id IS NOT NULL)", name=op.f("ck_file_batch_has_attempt")),
        sa.CheckConstraint("origin <> 'manual' OR provenance <> ''", name=op.f("ck_file_manual_has_provenance")),
        sa.CheckConstraint("origin IN ('raw', 'manual', 'batch')", name=op.f("ck_file_origin")),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempt.id"], name=op.f("fk_file_attempt_id_attempt")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_file")),
        sa.UniqueConstraint("name", "compression", name=op.f("uq_file_name_compression")),
    )
    op.create_index(op.f("ix_file_attempt_id"), "file", ["attempt_id"], unique=False)
    op.create_index(op.f("ix_file_begins_at"), "file", ["begins_at"], unique=False)
    op.create_index(op.f("ix_file_exposure_detector"), "file", ["exposure", "detector"], unique=False)
    op.create_index(op.f("ix_file_night"), "file", ["night"], unique=False)
    op.create_index(op.f("ix_file_sha256"), "file", ["sha256"], unique=False)
    op.create_index(op.f("ix_file_type_night_detector"), "file", ["type", "night", "detector"], unique=False)
    op.create_table(
        "calibration",
        sa.Column("id", KEY, nullable=False),
        sa.Column("file_id", KEY, nullable=False),
        sa.Column("set_name", sa.Text(), nullable=False),
        sa.Column("valid_from", TIME, nullable=False),
        sa.Column("valid_until", TIME, nullable=False),
        sa.Column("maturity", sa.String(length=16), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.CheckConstraint("maturity IN ('draft', 'certified', 'withdrawn')", name=op.f("ck_calibration_maturity")),
        sa.CheckConstraint("valid_from <= valid_until", name=op.f("ck_calibration_validity")),
        sa.ForeignKeyConstraint(["file_id"], ["file.id"], name=op.f("fk_calibration_file_id_file")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calibration")),
    )
    op.create_index(op.f("ix_calibration_file_id"), "calibration", ["file_id"], unique=False)
    op.create_index(op.f("ix_calibration_set_name_file_id"), "calibration", ["set_name", "file_id"], unique=False)
    op.create_table(
        "generation",
        sa.Column("file_id", KEY, nullable=False),
        sa.Column("execution_id", KEY, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("produced_name", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["execution_id"], ["execution.id"], name=op.f("fk_generation_execution_id_execution")),
        sa.ForeignKeyConstraint(["file_id"], ["file.id"], name=op.f("fk_generation_file_id_file")),
        sa.PrimaryKeyConstraint("file_id", name=op.f("pk_generation")),
    )
    op.create_index(op.f("ix_generation_execution_id"), "generation", ["execution_id"], unique=False)
    op.create_table(
        "input_use",
        sa.Column("execution_id", KEY, nullable=False),
        sa.Column("file_id", KEY, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("planned", sa.Boolean(), nullable=False),
        sa.Column("opened", sa.Boolean(), nullable=True),
        sa.Column("contributed", sa.Boolean(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["execution_id"], ["execution.id"], name=op.f("fk_input_use_execution_id_execution")),
        sa.ForeignKeyConstraint(["file_id"], ["file.id"], name=op.f("fk_input_use_file_id_file")),
        sa.PrimaryKeyConstraint("execution_id", "file_id", name=op.f("pk_input_use")),
    )
    op.create_index(op.f("ix_input_use_file_id"), "input_use", ["file_id"], unique=False)
    op.create_table(
        "planned_input",
        sa.Column("attempt_id", KEY, nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("file_id", KEY, nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempt.id"], name=op.f("fk_planned_input_attempt_id_attempt")),
        sa.ForeignKeyConstraint(["file_id"], ["file.id"], name=op.f("fk_planned_input_file_id_file")),
        sa.PrimaryKeyConstraint("attempt_id", "step", "role", "file_id", name=op.f("pk_planned_input")),
    )
    op.create_index(op.f("ix_planned_input_file_id"), "planned_input", ["file_id"], unique=False)
    op.create_table(
        "replica",
        sa.Column("id", KEY, nullable=False),
        sa.Column("file_id", KEY, nullable=False),
        sa.Column("store_id", KEY, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("verified_at", TIME, nullable=False),
        sa.CheckConstraint("state IN ('present', 'missing', 'corrupt')", name=op.f("ck_replica_state")),
        sa.ForeignKeyConstraint(["file_id"], ["file.id"], name=op.f("fk_replica_file_id_file")),
        sa.ForeignKeyConstraint(["store_id"], ["store.id"], name=op.f("fk_replica_store_id_store")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replica")),
        sa.UniqueConstraint("file_id", "store_id", name=op.f("uq_replica_file_id_store_id")),
        sa.UniqueConstraint("store_id", "path", name=op.f("uq_replica_store_id_path")),
    )


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
