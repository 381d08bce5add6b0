"""The configuration's documentation agrees with the configuration."""

from __future__ import annotations

import itertools
import tomllib
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from refdepth.errors import ConfigurationError
from refdepth.pipeline.config import RunConfig, build_config
from refdepth.pipeline.config_reference import (
    describe_fields,
    json_schema,
    select_fields,
    to_toml,
    toml_document,
)
from refdepth.settings import Quality, Settings, setting


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
    assert fields["runtime.device"].kind == "auto | cpu | cuda | mps"


def test_few_settings_are_public_and_come_first() -> None:
    fields = list(describe_fields())
    public = [f.path for f in fields if not f.expert]
    assert 20 <= len(public) <= 28
    assert {path.split(".")[0] for path in public} == {
        "prepare",
        "sfm",
        "depth",
        "refine",
        "fuse",
        "mesh",
        "runtime",
    }
    for table, members in itertools.groupby(fields, key=lambda f: f.path.rpartition(".")[0]):
        tiers = [field.expert for field in members]
        assert tiers == sorted(tiers), table


def test_a_group_for_experts_holds_nothing_public() -> None:
    class Inner(Settings):
        x: int = setting(1, "Some number.")

    class Outer(Settings):
        hidden: Inner = setting(Inner(), "Some group.", expert=True)
        shown: Inner = setting(Inner(), "Some group.")
        y: int = setting(1, "Some number.", expert=True)
        z: int = setting(1, "Some number.")

    found = [(field.path, field.expert) for field in describe_fields(Outer())]
    assert found == [("z", False), ("y", True), ("hidden.x", True), ("shown.x", False)]


@pytest.mark.parametrize("expert", [False, True])
@pytest.mark.parametrize("quality", Quality)
def test_the_printed_file_gives_the_same_settings_back(
    quality: Quality, expert: bool, tmp_path: Path
) -> None:
    path = tmp_path / "scene.toml"
    path.write_text(toml_document(quality, expert=expert), encoding="utf-8")
    assert tomllib.loads(path.read_text(encoding="utf-8"))["quality"] == quality
    assert build_config(config_file=path) == build_config(quality=quality)


def test_the_printed_file_holds_expert_settings_on_request_and_counts_them_else() -> None:
    few, every = toml_document(), toml_document(expert=True)
    hidden = [field for field in describe_fields() if field.expert]
    assert "neighbours" not in tomllib.loads(few)["fuse"]
    assert tomllib.loads(every)["fuse"]["neighbours"] == 10
    assert f"{len(hidden)} more settings" in few
    assert "more settings" not in every


@pytest.mark.parametrize("expert", [False, True])
def test_the_printed_file_fits_eighty_columns(expert: bool) -> None:
    assert max(map(len, toml_document(expert=expert).splitlines())) < 80


def test_the_schema_takes_the_printed_file_and_refuses_what_loading_refuses() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for expert in (False, True):
        jsonschema.validate(tomllib.loads(toml_document(expert=expert)), schema)
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


def test_the_schema_says_which_settings_are_for_experts_after_the_public_ones() -> None:
    fuse = json_schema()["$defs"]["FusionSettings"]["properties"]
    told = {name: field["expert"] for name, field in fuse.items()}
    assert told == {
        field.path.partition(".")[2]: field.expert
        for field in select_fields(describe_fields(), "fuse")
    }
    assert list(told.values()) == sorted(told.values())


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
