"""What its operators want of a campaign, how urgent it is; sign-offs, and what was told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("campaign", sa.Column("course", sa.String(16), nullable=False, server_default="goes_on"))
    op.add_column("campaign", sa.Column("steered_by", sa.Text(), nullable=True))
    op.add_column("campaign", sa.Column("steered_why", sa.Text(), nullable=True))
    op.add_column("campaign", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    op.create_table(
        "sign_off",
        sa.Column("id", KEY, nullable=False),
        sa.Column("campaign_id", KEY, nullable=False),
        sa.Column("breakpoint", sa.Text(), nullable=False),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name=op.f("fk_sign_off_campaign_id_campaign")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_off")),
    )
    op.create_index(op.f("ix_sign_off_campaign_id"), "sign_off", ["campaign_id"])
    op.create_table(
        "notification",
        sa.Column("id", KEY, nullable=False),
        sa.Column("campaign_id", KEY, nullable=False),
        sa.Column("event", sa.String(16), nullable=False),
        sa.Column("fact", sa.Text(), nullable=False),
        sa.Column("notifier", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name=op.f("fk_notification_campaign_id_campaign")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notification")),
        sa.UniqueConstraint(
            "campaign_id", "event", "fact", "notifier", name=op.f("uq_notification_campaign_id_event_fact_notifier")
        ),
    )


def downgrade() -> None:
    # What a person ended would be taken up by nobody, as nothing could say that it was asked for.
    op.execute("UPDATE job SET state = 'ready' WHERE state = 'cancelled'")
    op.drop_table("notification")
    op.drop_table("sign_off")
    for column in ("priority", "steered_why", "steered_by", "course"):  # in place: views ask of the table
        op.execute(f"ALTER TABLE campaign DROP COLUMN {column}")
