"""Orders can be had again, an input is kept in every role that it fills, and fates are an open set."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from nightmill.backbone.migrations import views

revision = "0004"
down_revision = "0003"

FATES = (
    "fate IN ('published', 'input_missing', 'input_corrupt', 'step_failed', 'step_killed', 'step_not_started', "
    "'wall_limit', 'missing_output', 'bad_output', 'name_collision', "
    "'no_space', 'store_error', 'cancelled', 'lost')"
)


def upgrade() -> None:
    with views.set_aside():
        _upgrade()


def _upgrade() -> None:
    with op.batch_alter_table("attempt") as attempt:
        attempt.add_column(sa.Column("copies", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=True))
        attempt.drop_constraint(op.f("ck_attempt_fate"), type_="check")
    with op.batch_alter_table("input_use") as input_use:
        input_use.drop_constraint(op.f("pk_input_use"), type_="primary")
        input_use.create_primary_key(op.f("pk_input_use"), ["execution_id", "file_id", "role"])


def downgrade() -> None:
    with views.set_aside():
        _downgrade()


def _downgrade() -> None:
    # Until now, a file was kept in one role, and a fate that is not of those was none.
    op.execute(
        "DELETE FROM input_use WHERE EXISTS (SELECT 1 FROM input_use AS other WHERE other.file_id = input_use.file_id"
        " AND other.execution_id = input_use.execution_id AND other.role < input_use.role)"
    )
    op.execute(f"UPDATE attempt SET fate = 'step_failed' WHERE NOT ({FATES})")
    with op.batch_alter_table("input_use") as input_use:
        input_use.drop_constraint(op.f("pk_input_use"), type_="primary")
        input_use.create_primary_key(op.f("pk_input_use"), ["execution_id", "file_id"])
    with op.batch_alter_table("attempt") as attempt:
        attempt.create_check_constraint(op.f("ck_attempt_fate"), FATES)
        attempt.drop_column("copies")
