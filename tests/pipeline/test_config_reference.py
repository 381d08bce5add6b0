"""The configuration's documentation agrees with the configuration."""

from __future__ import annotations

import tomllib
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from refdepth.errors import ConfigurationError
from refdepth.pipeline.config import Quality, RunConfig, build_config
from refdepth.pipeline.config_reference import (
    describe_fields,
    json_schema,
    select_fields,
    to_toml,
    toml_document,
)


def test_every_setting_is_explained() -> None:
    fields = list(describe_fields())
    assert len({field.path for field in fields}) == len(fields) > 40
    for field in fields:
        assert len(field.help) > 8, field.path
        assert field.kind, field.path


def test_the_printed_limits_are_the_real_ones() -> None:
    field = next(f for f in describe_fields() if f.path == "fuse.neighbours")
    assert (field.default, field.limits, field.kind) == ("10", "≥ 1, ≤ 32", "integer")
    with pytest.raises(ConfigurationError, match=r"fuse\.neighbours"):
        build_config(assignments=["fuse.neighbours=33"])
    assert build_config(assignments=["fuse.neighbours=32"]).fuse.neighbours == 32


def test_units_and_whether_a_change_remakes_results_are_told() -> None:
    fields = {field.path: field for field in describe_fields()}
    assert fields["fuse.voxel_px"].unit == "px"
    assert fields["fuse.voxel_px"].remakes
    assert not fields["runtime.device"].remakes
    assert fields["runtime.device"].kind == "auto | cpu | cuda"


@pytest.mark.parametrize("quality", [None, *Quality])
def test_the_printed_file_gives_the_same_settings_back(
    quality: Quality | None, tmp_path: Path
) -> None:
    config = build_config(quality=quality)
    path = tmp_path / "scene.toml"
    path.write_text(toml_document(config), encoding="utf-8")
    assert build_config(config_file=path) == config


def test_the_schema_takes_the_printed_file_and_refuses_what_loading_refuses() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(tomllib.loads(toml_document(RunConfig())), schema)
    jsonschema.validate({"quality": "high", "refine": {"sources": 5}}, schema)
    for wrong in (
        {"fuse": {"neighbours": 33}},
        {"fuse": {"voxel": 1}},
        {"quality": "best"},
        {"runtime": {"device": "tpu"}},
        {"refine": {"fine": {"iterations": 3}}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
    with pytest.raises(ValidationError):
        RunConfig.model_validate({"fuse": {"voxel": 1}})


def test_a_group_a_setting_and_nonsense() -> None:
    assert {f.path.split(".")[0] for f in select_fields(describe_fields(), "fuse")} == {"fuse"}
    assert len(select_fields(describe_fields(), "fuse.voxel_px")) == 1
    with pytest.raises(ConfigurationError, match=r"groups are .*refine"):
        select_fields(describe_fields(), "fus")


def test_values_as_toml() -> None:
    for value in (True, 3, 0.25, 1e-9, 'a "quote" and ü', (1, 2), ("a",)):
        back = tomllib.loads(f"x = {to_toml(value)}")["x"]
        assert back == (list(value) if isinstance(value, tuple) else value)
    assert to_toml(None) == ""
    assert tomllib.loads(f"x = {to_toml(float('inf'))}")["x"] == float("inf")
