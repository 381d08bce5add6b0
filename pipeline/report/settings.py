"""The settings of a run as rows, and which of them were changed."""

from __future__ import annotations

from dataclasses import dataclass

from refdepth.settings import Settings


@dataclass(frozen=True, kw_only=True)
class SettingRow:
    """One setting."""

    field: str
    """Dotted path, as `--set` takes it."""
    value: str
    default: str
    changed: bool
    help: str


def setting_rows(
    settings: Settings, defaults: Settings | None = None, prefix: str = ""
) -> list[SettingRow]:
    """Every field of `settings` and of the groups in it, in order, beside `defaults` (those of
    the class where none are given)."""
    defaults = type(settings)() if defaults is None else defaults
    rows: list[SettingRow] = []
    for name, field in type(settings).model_fields.items():
        if field.exclude:  # follows another setting
            continue
        value, default = getattr(settings, name), getattr(defaults, name)
        if isinstance(value, Settings):
            rows += setting_rows(value, default, f"{prefix}{name}.")
            continue
        rows.append(
            SettingRow(
                field=f"{prefix}{name}",
                value=str(value),
                default=str(default),
                changed=value != default,
                help=field.description or "",
            )
        )
    return rows
