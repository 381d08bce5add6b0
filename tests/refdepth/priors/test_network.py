"""Depth networks: tiny random checkpoints through the real loading code."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoints import save_depth_anything, save_dpt

from refdepth.errors import InputError, UnavailableError
from refdepth.priors.checkpoints import AUTO_MODEL, find_checkpoint
from refdepth.priors.network import NetworkPrior
from refdepth.priors.resolution import in_photo
from refdepth.synthetic import make_scene
from refdepth.types.prior import PriorKind
from refdepth.types.scene import Scene


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    folder = tmp_path_factory.mktemp("checkpoints")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_depth_anything(folder / "relative")
        save_depth_anything(folder / "metric", "metric")
        save_dpt(folder / "dpt")
    return folder


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    room = make_scene(views=2, width=96, height=64)
    return room.to_scene(tmp_path_factory.mktemp("images"), points_per_view=20)


@pytest.mark.parametrize(
    ("name", "kind", "in_metres"),
    [
        ("relative", PriorKind.INVERSE_AFFINE, False),
        ("metric", PriorKind.METRIC, True),
        ("dpt", PriorKind.INVERSE_AFFINE, False),
    ],
)
def test_saved_checkpoints_give_priors_in_the_photos_grid(
    checkpoints: Path, scene: Scene, name: str, kind: PriorKind, in_metres: bool
) -> None:
    network = NetworkPrior(find_checkpoint(str(checkpoints / name)), device="cpu")
    view = scene.views[0]
    prior = network.estimate(view, scene)
    assert (prior.kind, prior.in_metres) == (kind, in_metres)
    assert prior.covers == view.camera.shape
    assert in_photo(prior, view.camera.shape).values.shape == view.camera.shape
    assert prior.values.dtype == np.float32
    assert np.isfinite(prior.values).all()
    assert np.ptp(prior.values) > 0
    np.testing.assert_array_equal(prior.values, network.estimate(view, scene).values)
    other = network.estimate(scene.views[1], scene)
    assert not np.array_equal(prior.values, other.values)


def test_a_folder_is_looked_up_when_it_is_first_needed(checkpoints: Path, scene: Scene) -> None:
    folder = checkpoints / "relative"
    lazy = NetworkPrior(str(folder), device="cpu")
    sure = NetworkPrior(find_checkpoint(str(folder)), device="cpu")
    view = scene.views[0]
    np.testing.assert_array_equal(
        lazy.estimate(view, scene).values, sure.estimate(view, scene).values
    )
    assert lazy.identity == sure.identity
    nowhere = NetworkPrior("nowhere at all", device="cpu")
    with pytest.raises(InputError, match="neither a folder nor a hub id"):
        nowhere.estimate(view, scene)


@pytest.mark.parametrize("name", ["relative", "metric", "dpt"])
def test_half_precision_ends_where_the_networks_values_are(
    checkpoints: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Enlarging them in half precision would leave terraces: few different values a row."""
    import torch

    network = NetworkPrior(checkpoints / name, device="cpu")
    shape = scene.views[0].camera.shape
    exact = in_photo(network.estimate(scene.views[0], scene), shape).values
    loaded = network._loaded
    assert loaded is not None
    model = loaded._model
    rounded = []

    class Half:
        """The network with its values rounded to half precision, as CUDA gives them."""

        def __call__(self, pixels: torch.Tensor) -> object:
            outputs = model(pixels)
            outputs["predicted_depth"] = outputs.predicted_depth.half()
            rounded.append(outputs.predicted_depth.clone())
            return outputs

    monkeypatch.setattr(loaded, "_model", Half())
    values = in_photo(network.estimate(scene.views[0], scene), shape).values
    assert np.abs(values - exact).max() <= 5e-4 * np.abs(exact).max()
    between = values != values.astype(np.float16).astype(np.float32)
    if name == "dpt":  # kept as the network gave it: nothing is enlarged
        assert network.estimate(scene.views[0], scene).values.shape == rounded[0].shape[-2:]
    else:
        assert between.mean() > 0.3  # the rest lies where the network has a value
    assert rounded[0].dtype == torch.float16


def test_values_agree_with_transformers_own_pipeline(checkpoints: Path, scene: Scene) -> None:
    from PIL import Image
    from transformers import pipeline

    folder = checkpoints / "relative"
    with Image.open(scene.views[0].image_path) as picture:
        expected = pipeline("depth-estimation", str(folder))(picture)["predicted_depth"].numpy()
    network = NetworkPrior(find_checkpoint(str(folder)), device="cpu")
    values = network.estimate(scene.views[0], scene).values
    np.testing.assert_allclose(values, np.squeeze(expected), rtol=1e-4, atol=1e-6)


def test_identity_is_the_content_of_a_local_folder(checkpoints: Path, tmp_path: Path) -> None:
    here = find_checkpoint(str(checkpoints / "relative"))
    moved = shutil.copytree(checkpoints / "relative", tmp_path / "moved")
    (moved / "README.md").write_text("not part of the network")
    assert NetworkPrior(find_checkpoint(str(moved))).identity == NetworkPrior(here).identity
    assert str(checkpoints) not in str(NetworkPrior(here).identity)
    with (moved / "config.json").open("a") as file:
        file.write("\n")
    assert find_checkpoint(str(moved)).revision != here.revision


@pytest.mark.parametrize("missing", ["config.json", "preprocessor_config.json", "*.safetensors"])
def test_incomplete_folders_are_refused(checkpoints: Path, tmp_path: Path, missing: str) -> None:
    folder = shutil.copytree(checkpoints / "relative", tmp_path / "partial")
    for path in folder.glob(missing):
        path.unlink()
    with pytest.raises(InputError, match=missing.removeprefix("*")):
        find_checkpoint(str(folder))


def truncated_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def missing_weights(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors = {name: value for name, value in tensors.items() if not name.startswith("head")}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def other_model_type(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "bert"
    (folder / "config.json").write_text(json.dumps(config))


def broken_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def remote_code(folder: Path) -> None:
    """A configuration that asks for code of its own: it must not run."""
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "evil"
    config["auto_map"] = {"AutoConfig": "evil.Config"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit('remote code ran')")


@pytest.mark.parametrize(
    "damage", [truncated_weights, missing_weights, other_model_type, broken_json, remote_code]
)
def test_damaged_checkpoints_are_refused_by_name(
    checkpoints: Path, tmp_path: Path, scene: Scene, damage: Callable[[Path], None]
) -> None:
    folder = shutil.copytree(checkpoints / "relative", tmp_path / "damaged")
    damage(folder)
    network = NetworkPrior(find_checkpoint(str(folder)), device="cpu")
    with pytest.raises(InputError, match="damaged"):
        network.estimate(scene.views[0], scene)


@pytest.mark.parametrize(("raised", "told"), [(MemoryError, MemoryError), (KeyError, InputError)])
def test_refused_memory_is_not_taken_for_a_damaged_checkpoint(
    checkpoints: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch, raised: type, told: type
) -> None:
    import transformers

    def load(*_: object, **__: object) -> None:
        raise raised  # without a message

    monkeypatch.setattr(transformers.AutoModelForDepthEstimation, "from_pretrained", load)
    prior = NetworkPrior(find_checkpoint(str(checkpoints / "relative")))
    with pytest.raises(told):
        prior.estimate(scene.views[0], scene)


def test_cuda_that_is_not_there_is_told(checkpoints: Path, scene: Scene) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("CUDA is there")
    network = NetworkPrior(find_checkpoint(str(checkpoints / "relative")), device="cuda")
    with pytest.raises(UnavailableError, match="no CUDA device"):
        network.estimate(scene.views[0], scene)


@pytest.mark.gpu
def test_cuda_in_half_precision_agrees_with_the_cpu(checkpoints: Path, scene: Scene) -> None:
    checkpoint = find_checkpoint(str(checkpoints / "metric"))
    cpu, cuda = (
        NetworkPrior(checkpoint, device=device).estimate(scene.views[0], scene).values
        for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(cuda, cpu, rtol=0.01)


@pytest.mark.parametrize("name", ["no/such/place", "./absent", "name", "../a/b", "a b/c", ""])
def test_names_that_are_neither_folder_nor_hub_id_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="neither a folder nor a hub id"):
        find_checkpoint(name)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "hub"


def must_not_ask(endpoint: str) -> bool:
    pytest.fail("the network was asked")


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that accepts connections and never answers: the slowest way to be unreachable."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_an_unreachable_hub_is_told_within_five_seconds(
    empty_cache: Path, silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", silent_server)
    started = time.monotonic()
    with pytest.raises(UnavailableError, match="not reachable") as caught:
        find_checkpoint(AUTO_MODEL)
    assert time.monotonic() - started < 5
    assert f"hf download {AUTO_MODEL}" in str(caught.value)


def test_offline_mode_is_honoured_without_asking(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("refdepth.priors.checkpoints._reachable", must_not_ask)
    with pytest.raises(UnavailableError, match="HF_HUB_OFFLINE"):
        find_checkpoint(AUTO_MODEL, "main")


def fill_cache(cache: Path, source: Path) -> str:
    """Puts a checkpoint into a hub cache the way a download leaves it."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = cache / f"models--{AUTO_MODEL.replace('/', '--')}"
    shutil.copytree(source, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    return commit


def test_a_cached_model_is_used_without_a_network_and_its_commit_recorded(
    empty_cache: Path, checkpoints: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refdepth.priors.checkpoints._reachable", must_not_ask)
    commit = fill_cache(empty_cache, checkpoints / "relative")
    network = NetworkPrior(find_checkpoint(AUTO_MODEL), device="cpu")
    assert network.identity == {"source": "network", "model": AUTO_MODEL, "revision": commit}
    assert np.isfinite(network.estimate(scene.views[0], scene).values).all()
    assert find_checkpoint(AUTO_MODEL, commit).revision == commit


def test_a_cache_without_weights_does_not_count(
    empty_cache: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_cache(empty_cache, checkpoints / "relative")
    next(empty_cache.rglob("model.safetensors")).unlink()
    monkeypatch.setattr("refdepth.priors.checkpoints._reachable", lambda endpoint: False)
    with pytest.raises(UnavailableError, match="not in the local cache"):
        find_checkpoint(AUTO_MODEL)


def test_a_named_model_that_cannot_be_reached_is_an_error(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refdepth.priors.checkpoints._reachable", lambda endpoint: False)
    with pytest.raises(UnavailableError, match=AUTO_MODEL):
        find_checkpoint(AUTO_MODEL)


def test_a_model_the_hub_does_not_have_is_told(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815  (the base class looks for this name)

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        with pytest.raises(UnavailableError, match=r"no such model|download failed"):
            find_checkpoint("nobody/nothing")
        server.shutdown()
