"""The configuration, documented from its own definitions; public settings before expert ones."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from refdepth.errors import ConfigurationError
from refdepth.pipeline.config import RunConfig, build_config
from refdepth.settings import Quality, Settings, affects_result, is_expert, unit_of

_LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "multiple of"}

_WIDTH = 79
"""Longest line of the TOML file that is printed."""


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
    expert: bool
    """Whether it is shown on request only."""

    @property
    def about(self) -> str:
        """Type, unit, limits and tier in one line."""
        tier = "expert" if self.expert else ""
        return ", ".join(part for part in (self.kind, self.unit, self.limits, tier) if part)


def describe_fields(
    config: Settings | None = None, prefix: str = "", *, expert: bool = False
) -> Iterator[FieldReference]:
    """Every setting, each group's own before the groups in it, public ones before expert ones.
    Defaults are those of `config` (default: of the program); all are for experts where `expert`
    says so of the group they are in."""
    config = RunConfig() if config is None else config
    own: list[FieldReference] = []
    groups: list[tuple[str, Settings, bool]] = []
    for name, field in type(config).model_fields.items():
        if field.exclude:  # follows another setting
            continue
        value = getattr(config, name)
        path = f"{prefix}{name}"
        if isinstance(value, Settings):
            groups.append((path, value, expert or is_expert(field)))
            continue
        own.append(
            FieldReference(
                path=path,
                kind=_kind(field.annotation),
                default=to_toml(value),
                unit=unit_of(field),
                limits=_limits(field),
                help=field.description or "",
                remakes=affects_result(field),
                expert=expert or is_expert(field),
            )
        )
    yield from sorted(own, key=lambda field: field.expert)
    for path, group, for_experts in groups:
        yield from describe_fields(group, f"{path}.", expert=for_experts)


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


def toml_document(quality: Quality = Quality.BALANCED, *, expert: bool = False) -> str:
    """The public settings of a preset, or all of them with `expert`, as a TOML file with each
    field's help: a start for one's own."""
    every = list(describe_fields(build_config(quality=quality)))
    shown = [field for field in every if expert or not field.expert]
    lines = [
        *_comment("Settings of refdepth; what is left out keeps its default."),
        "",
        *_comment(f"The preset that the settings below change: {', '.join(Quality)}."),
        f"quality = {to_toml(quality)}",
    ]
    table = None
    for field in shown:
        *groups, name = field.path.split(".")
        if groups != table:
            table = groups
            lines += ["", f"[{'.'.join(groups)}]"]
        lines += _comment(field.help)
        line = f"{name} = {field.default}" if field.default else f"# {name} ="
        if len(line) + len(field.about) + 4 <= _WIDTH:
            lines.append(f"{line}  # {field.about}")
        else:
            lines += [*_comment(field.about), line]
    if len(shown) < len(every):
        lines += ["", *_comment(f"{len(every) - len(shown)} more settings: refdepth config --all")]
    return "\n".join(lines) + "\n"


def json_schema() -> dict[str, Any]:
    """JSON schema of a configuration file, for editors: all that a file may hold, the settings and
    `quality`. Each setting, or group of them, says with `expert` of which tier it is; public ones
    come first."""
    schema = RunConfig.model_json_schema()
    for group in _groups(RunConfig()):
        definition = schema["$defs"][type(group).__name__]
        fields = type(group).model_fields
        names = sorted(definition["properties"], key=lambda name: is_expert(fields[name]))
        definition["properties"] = {
            name: definition["properties"][name] for name in names if not fields[name].exclude
        }
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


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


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
