"""Base of all settings: frozen, keyword-only, every field described, bad values refused.

Settings come in two tiers: the few that people should touch, and expert ones, shown on request.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo


class Quality(StrEnum):
    """How much time the refinement may take."""

    FAST = "fast"
    BALANCED = "balanced"
    HIGH = "high"
    PAPER = "paper"


class Settings(BaseModel):
    """A frozen group of settings. Unknown fields are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, use_enum_values=False
    )

    def result_fields(self) -> dict[str, Any]:
        """The fields that determine a result, as plain JSON values: what a fingerprint hashes."""
        plain = self.model_dump(mode="json")
        fields: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Settings):
                fields[name] = value.result_fields()
            elif affects_result(field) and name in plain:
                fields[name] = plain[name]
        return fields


def setting(
    default: Any,
    description: str,
    *,
    unit: str | None = None,
    affects_result: bool = True,
    expert: bool = False,
    **limits: Any,
) -> Any:
    """A field of a `Settings` class. `description` is also its help text; `limits` are pydantic's
    (`ge`, `gt`, `le`, `lt`). `affects_result=False` keeps the field out of fingerprints.
    `expert=True` keeps it, or all of a group, out of what is shown first."""
    extra: dict[str, Any] = {"unit": unit, "affects_result": affects_result, "expert": expert}
    return Field(default, description=description, json_schema_extra=extra, **limits)


def affects_result(field: FieldInfo) -> bool:
    """Whether a change of this field changes a result."""
    return _extra(field).get("affects_result") is not False


def is_expert(field: FieldInfo) -> bool:
    """Whether this field, or all of this group, is for experts."""
    return _extra(field).get("expert") is True


def unit_of(field: FieldInfo) -> str:
    """The unit of this field's values; empty for none."""
    return str(_extra(field).get("unit") or "")


def _extra(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    return extra if isinstance(extra, dict) else {}
