"""The tables of the backbone.

What exists is in ``file``, where it is in ``replica``, at which ``site``'s ``store``, what it is for in
``calibration``; what was to be done in ``campaign``, ``plan`` and ``job``; what was done in ``attempt``, ``execution``
and the two relations ``input_use`` (used) and ``generation`` (was_generated_by). Rows of files appear in the
transaction that makes them whole and never before.
"""

from __future__ import annotations

from nightmill.backbone.schema.attachments import AttachedRow, AttachmentRow, FileAttachmentRow
from nightmill.backbone.schema.base import NAMING, Base, UtcDateTime
from nightmill.backbone.schema.errors import ErrorRuleRow, ErrorSwitchRow
from nightmill.backbone.schema.file_warnings import FileWarningRow
from nightmill.backbone.schema.files import (
    AuditRow,
    CalibrationRow,
    ContextRoleRow,
    ContextRow,
    DoubtRow,
    ExclusionLiftRow,
    ExclusionRow,
    FileRow,
    RefusalRow,
    ReplicaRow,
    SiteRow,
    StoreRow,
    TransferRow,
    WithdrawalRow,
)
from nightmill.backbone.schema.footprints import FootprintRow
from nightmill.backbone.schema.observed import DerivationRow, DifferenceRow
from nightmill.backbone.schema.seals import ChainRow, SigningKeyRow, StatementRow
from nightmill.backbone.schema.software import RegressionRow, SoftwareRow
from nightmill.backbone.schema.work import (
    AttemptRow,
    CampaignRow,
    DeliveryRow,
    ExecutionRow,
    GenerationRow,
    InputUseRow,
    JobRow,
    LeaseRow,
    LeftOutRow,
    NotificationRow,
    PlannedInputRow,
    PlanRow,
    SavedPlanRow,
    SignOffRow,
    SliceRow,
    TakenRow,
)

__all__ = [
    "NAMING",
    "AttachedRow",
    "AttachmentRow",
    "AttemptRow",
    "AuditRow",
    "Base",
    "CalibrationRow",
    "CampaignRow",
    "ChainRow",
    "ContextRoleRow",
    "ContextRow",
    "DeliveryRow",
    "DerivationRow",
    "DifferenceRow",
    "DoubtRow",
    "ErrorRuleRow",
    "ErrorSwitchRow",
    "ExclusionLiftRow",
    "ExclusionRow",
    "ExecutionRow",
    "FileAttachmentRow",
    "FileRow",
    "FileWarningRow",
    "FootprintRow",
    "GenerationRow",
    "InputUseRow",
    "JobRow",
    "LeaseRow",
    "LeftOutRow",
    "NotificationRow",
    "PlanRow",
    "PlannedInputRow",
    "RefusalRow",
    "RegressionRow",
    "ReplicaRow",
    "SavedPlanRow",
    "SignOffRow",
    "SigningKeyRow",
    "SiteRow",
    "SliceRow",
    "SoftwareRow",
    "StatementRow",
    "StoreRow",
    "TakenRow",
    "TransferRow",
    "UtcDateTime",
    "WithdrawalRow",
]
