"""Base of all settings: frozen, keyword-only, every field described, bad values refused."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo


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
    **limits: Any,
) -> Any:
    """A field of a `Settings` class. `description` is also its help text; `limits` are pydantic's
    (`ge`, `gt`, `le`, `lt`). `affects_result=False` keeps the field out of fingerprints."""
    extra: dict[str, Any] = {"unit": unit, "affects_result": affects_result}
    return Field(default, description=description, json_schema_extra=extra, **limits)


def affects_result(field: FieldInfo) -> bool:
    """Whether a change of this field changes a result."""
    extra = field.json_schema_extra
    return not (isinstance(extra, dict) and extra.get("affects_result") is False)
