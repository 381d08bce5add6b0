"""The configuration, documented from its own definitions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from refdepth.errors import ConfigurationError
from refdepth.pipeline.config import RunConfig
from refdepth.settings import Settings, affects_result

_LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "multiple of"}


@dataclass(frozen=True, kw_only=True)
class FieldReference:
    """All there is to say about one setting."""

    path: str
    """Dotted, as `--set` and the TOML tables take it."""
    kind: str
    default: str
    """As TOML; empty for none."""
    unit: str
    limits: str
    help: str
    remakes: bool
    """Whether a change makes results again."""


def describe_fields(config: Settings | None = None, prefix: str = "") -> Iterator[FieldReference]:
    """Every setting, each group's own before the groups in it. Defaults are those of `config`
    (default: of the program)."""
    config = RunConfig() if config is None else config
    groups: dict[str, Settings] = {}
    for name, field in type(config).model_fields.items():
        if field.exclude:  # follows another setting
            continue
        value = getattr(config, name)
        path = f"{prefix}{name}"
        if isinstance(value, Settings):
            groups[path] = value
            continue
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, Mapping) else {}
        yield FieldReference(
            path=path,
            kind=_kind(field.annotation),
            default=to_toml(value),
            unit=str(extra.get("unit") or ""),
            limits=_limits(field),
            help=field.description or "",
            remakes=affects_result(field),
        )
    for path, group in groups.items():
        yield from describe_fields(group, f"{path}.")


def select_fields(fields: Iterator[FieldReference], prefix: str) -> list[FieldReference]:
    """The setting called `prefix`, or those of the group of that name; all for an empty one.

    Raises `ConfigurationError` when there is none.
    """
    every = list(fields)
    found = [f for f in every if not prefix or f.path == prefix or f.path.startswith(f"{prefix}.")]
    if not found:
        groups = sorted({f.path.split(".")[0] for f in every})
        raise ConfigurationError(
            "is neither a setting nor a group of settings.",
            subject=prefix,
            action=f"The groups are {', '.join(groups)}.",
        )
    return found


def toml_document(config: RunConfig) -> str:
    """The settings of `config` as a TOML file with each field's help: a start for one's own."""
    lines = ["# Settings of refdepth; what is left out keeps its default."]
    table = None
    for field in describe_fields(config):
        *groups, name = field.path.split(".")
        if groups != table:
            table = groups
            lines += ["", f"[{'.'.join(groups)}]"]
        about = "; ".join(part for part in (field.unit, field.limits) if part)
        lines.append(f"# {field.help}" + (f" ({about})" if about else ""))
        lines.append(f"{name} = {field.default}" if field.default else f"# {name} =")
    return "\n".join(lines) + "\n"


def json_schema() -> dict[str, Any]:
    """JSON schema of a configuration file, for editors: the settings and `quality`."""
    from refdepth.pipeline.config import Quality

    schema = RunConfig.model_json_schema()
    for group in _groups(RunConfig()):
        for name, field in type(group).model_fields.items():
            if field.exclude:
                schema["$defs"][type(group).__name__]["properties"].pop(name, None)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "refdepth configuration"
    schema["properties"]["quality"] = {
        "description": "Preset of the refinement that the other settings change.",
        "enum": [quality.value for quality in Quality],
    }
    return schema


def to_toml(value: Any) -> str:
    """A setting's value as TOML; empty for None, which TOML does not have."""
    if isinstance(value, Enum):
        value = value.value
    if value is None:
        return ""
    if isinstance(value, tuple | list):
        return "[" + ", ".join(to_toml(item) for item in value) + "]"
    if isinstance(value, float):
        return repr(value) if value == value and abs(value) != float("inf") else str(value)
    return json.dumps(value, ensure_ascii=False)


def _groups(settings: Settings) -> Iterator[Settings]:
    """All groups of settings inside `settings`."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, Settings):
            yield value
            yield from _groups(value)


def _kind(annotation: Any) -> str:
    """A type in words."""
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " | ".join(str(member.value) for member in annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin in (tuple, list):
        inner = " × ".join(_kind(argument) for argument in arguments if argument is not Ellipsis)
        return f"list of {inner}"
    if arguments:
        return " | ".join(_kind(argument) for argument in arguments)
    words = {int: "integer", float: "number", bool: "true | false", str: "text", type(None): "none"}
    return words.get(annotation, str(getattr(annotation, "__name__", annotation)))


def _limits(field: FieldInfo) -> str:
    found = []
    for rule in field.metadata:
        for name, sign in _LIMITS.items():
            limit = getattr(rule, name, None)
            if limit is not None:
                found.append(f"{sign} {limit}")
    return ", ".join(found)
