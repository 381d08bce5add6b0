"""A run's network and the kind that was asked for."""

from pathlib import Path

import pytest
from tiny_checkpoints import save_depth_anything, save_dpt

from refdepth.errors import ConfigurationError
from refdepth.pipeline.api import refuse_combinations
from refdepth.pipeline.config import RunInputs, RunRequest, build_config
from refdepth.pipeline.priors import checkpoint_of, choose_prior, prior_note, weights_bytes
from refdepth.pipeline.workspace import Workspace


def asked(model: Path, kind: str) -> RunRequest:
    options = {"depth.model": str(model), "depth.kind": kind}
    return RunRequest(inputs=RunInputs(images="photos"), config=build_config(options=options))


def test_a_kind_that_contradicts_the_network_is_refused_before_anything_is_made(
    tmp_path: Path,
) -> None:
    workspace, model = Workspace(tmp_path / "out"), tmp_path / "model"
    save_depth_anything(model)
    with pytest.raises(ConfigurationError, match=r"depth\.kind: is metric.*says inverse_affine"):
        choose_prior(workspace, asked(model, "metric"), None, looking=False)
    request = asked(model, "inverse_affine")
    found = choose_prior(workspace, request, None, looking=False)
    assert found["kind"] == "inverse_affine"
    assert prior_note(request, found) == ""


def test_a_kind_that_the_network_leaves_open_is_told_with_the_run(tmp_path: Path) -> None:
    workspace, model = Workspace(tmp_path / "out"), tmp_path / "model"
    save_dpt(model)
    request = asked(model, "metric")
    found = choose_prior(workspace, request, None, looking=False)
    assert "no metres are claimed" in prior_note(request, found)


def test_a_kind_goes_with_a_named_network_and_not_with_one_that_is_known(tmp_path: Path) -> None:
    given = {"model": None, "poses": None, "depth_maps": None, "depth_unit": None}
    for model in (str(tmp_path), "owner/name"):
        config = asked(Path(model), "affine").config
        refuse_combinations(config, **given, depth_kind="affine", depth_model=model)
    for model in ("auto", "sweep"):
        config = asked(Path(model), "affine").config
        with pytest.raises(ConfigurationError, match=f"--depth-model {model} is known"):
            refuse_combinations(config, **given, depth_kind="affine", depth_model=None)


def test_files_that_are_not_loaded_take_no_memory(tmp_path: Path) -> None:
    workspace, model = Workspace(tmp_path / "out"), tmp_path / "model"
    save_depth_anything(model)
    request = asked(model, "inverse_affine")
    checkpoint = checkpoint_of(request, choose_prior(workspace, request, None, looking=False))
    alone = weights_bytes(checkpoint)
    assert alone > 2 * (model / "model.safetensors").stat().st_size
    with (model / "pytorch_model.bin").open("wb") as file:
        file.truncate(1 << 33)  # the same weights once more, in a form that is never read
    (model / "README.md").symlink_to(tmp_path / "pruned from the cache")
    assert weights_bytes(checkpoint) == alone
