from __future__ import annotations

import re
from pathlib import Path

import pytest

from refdepth.errors import ConfigurationError
from refdepth.pipeline.config import RunConfig, RunInputs, RunRequest, build_config
from refdepth.pipeline.config_reference import describe_fields, select_fields
from refdepth.settings import Quality, Settings


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "scene.toml"
    file.write_text('quality = "fast"\n[refine]\niterations = 11\n[depth]\nmodel = "sweep"\n')
    config = build_config(config_file=file)
    assert config.refine.iterations == 11
    assert config.depth.model == "sweep"
    config = build_config(
        config_file=file,
        options={"depth.model": "some/model", "runtime.seed": 3, "depth.kind": None},
        assignments=["refine.iterations=12"],
    )
    assert (config.refine.iterations, config.depth.model) == (12, "some/model")
    assert config.runtime.seed == 3


def test_the_quality_option_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "scene.toml"
    file.write_text('quality = "high"\n')
    fast = build_config(quality=Quality.FAST)
    assert build_config(config_file=file, quality=Quality.FAST) == fast
    assert build_config(config_file=file) != fast


@pytest.mark.parametrize(
    ("assignment", "field"),
    [
        ("refine.iterations=-1", "refine.iterations"),
        ("refine.iterations=many", "refine.iterations"),
        ("refine.nonsense=1", "refine.nonsense"),
        ("nonsense.iterations=1", "nonsense"),
        ("sfm.matching=telepathy", "sfm.matching"),
        ("depth.kind=upside-down", "depth.kind"),
    ],
)
def test_a_bad_value_is_refused_with_the_path_of_its_field(assignment: str, field: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build_config(assignments=[assignment])
    assert caught.value.subject == field
    assert caught.value.action


@pytest.mark.parametrize("assignment", ["refine.iterations=-1", "refine.surface.scales=['a']"])
def test_a_bad_value_is_answered_with_a_command_that_explains_it(assignment: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build_config(assignments=[assignment])
    advised = re.search(r"`refdepth config ([\w.]+)`", str(caught.value.action))
    assert advised
    (explained,) = select_fields(describe_fields(), advised[1])
    assert explained.path == assignment.partition("=")[0]


def test_an_unknown_field_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="iterations"):
        build_config(assignments=["refine.iteration=3"])


@pytest.mark.parametrize("text", ["refine.iterations", "=3", ""])
def test_an_assignment_needs_a_field_and_a_value(text: str) -> None:
    with pytest.raises(ConfigurationError, match="FIELD=VALUE"):
        build_config(assignments=[text])


@pytest.mark.parametrize("content", [b"a = ", b"\xff\xfe", b'quality = "gold"', b"[refine]\nx = 1"])
def test_a_bad_file_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "scene.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"scene\.toml"):
        build_config(config_file=file)


def test_a_request_survives_its_file_form() -> None:
    request = RunRequest(
        inputs=RunInputs(images="/photos", views=("a*",)),
        config=build_config(assignments=["refine.iterations=5"]),
    )
    assert RunRequest.model_validate(request.model_dump(mode="json")) == request


def test_every_field_is_described_and_has_a_default_that_holds() -> None:
    def check(model: type[Settings], path: str) -> None:
        for name, field in model.model_fields.items():
            assert field.description, f"{path}{name}"
            if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
                check(field.annotation, f"{path}{name}.")

    check(RunConfig, "")
    RunConfig()
