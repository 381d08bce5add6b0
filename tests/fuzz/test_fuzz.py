"""Readers of foreign files against files that nobody would write: a short run of the fuzzer, what
it has found before, and properties."""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from fuzz_targets import TARGETS, Target
from fuzzing import Finding, Fuzzer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refdepth.errors import ConfigurationError, InputError, RefdepthError
from refdepth.ingest.names import checked_name
from refdepth.io.depth_files import read_depth_file
from refdepth.pipeline.config import RunConfig, build_config
from refdepth.pipeline.files import hash_json, read_sealed, write_sealed
from refdepth.pipeline.items import ItemStore, safe_name
from refdepth.pipeline.manifest import Manifest
from refdepth.pipeline.stages.prepare import read_table
from refdepth.pipeline.workspace import Workspace
from refdepth.sfm.transforms import read_transforms

FINDINGS = Path(__file__).with_name("findings")
INPUTS = 150
QUICK = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


@pytest.mark.filterwarnings("ignore")  # Pillow about damaged TIFF
@pytest.mark.parametrize("name", TARGETS)
def test_mutated_files_are_read_or_refused(
    name: str, tmp_path: Path, survived: Counter[str]
) -> None:
    fuzzer = Fuzzer(TARGETS[name], tmp_path, seed=0)
    fuzzer.run(count=INPUTS)
    survived["mutated files"] += fuzzer.tried


@pytest.mark.parametrize(
    ("name", "path"),
    [(path.parent.name, path) for path in sorted(FINDINGS.glob("*/*"))],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_earlier_findings_stay_fixed(name: str, path: Path, tmp_path: Path) -> None:
    Fuzzer(TARGETS[name], tmp_path, seed=0).feed(path.read_bytes())


@pytest.mark.parametrize("harm", ["crash", "outside", "pickle"])
def test_the_fuzzer_sees_what_it_looks_for(harm: str, tmp_path: Path) -> None:
    import pickle

    def read(path: Path) -> None:
        if harm == "crash":
            raise IndexError
        if harm == "outside":
            (tmp_path.parent / "outside").write_bytes(b"")
        if harm == "pickle":
            pickle.loads(b"cbuiltins\nlist\n.")

    with pytest.raises(Finding):
        Fuzzer(Target(read, "file", lambda: [b"x"]), tmp_path, seed=0).run(count=1)


@QUICK
@given(JSON)
def test_any_json_as_configuration_is_taken_or_refused_by_field(value: Any) -> None:
    for field in ("refine.iterations", "prepare", "runtime.seed", "fuse.voxel_px", "depth.model"):
        refused = field
        try:
            assert isinstance(build_config(options={field: value}), RunConfig)
        except ConfigurationError as error:
            refused = str(error.subject)
        assert field.split(".")[0] in refused


@QUICK
@given(value=JSON)
def test_any_json_as_transforms_is_refused(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "transforms.json"
    path.write_text(json.dumps({"frames": value}))
    with pytest.raises(InputError, match=r"transforms\.json"):
        read_transforms(path)


@QUICK
@given(pose=hnp.arrays(np.float64, (3, 4), elements=st.floats()), focal=JSON)
def test_a_pose_that_is_read_is_a_rotation(pose: np.ndarray, focal: Any, tmp_path: Path) -> None:
    path = tmp_path / "transforms.json"
    frame = {"file_path": "a.jpg", "transform_matrix": pose.tolist(), "fl_x": focal}
    path.write_text(json.dumps({"frames": [frame]}))
    try:
        (read,) = read_transforms(path)
    except InputError:
        return
    rotation = read.cam_from_world[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
    assert read.intrinsics.focal_x is None or 0 < read.intrinsics.focal_x < math.inf


@QUICK
@given(st.text(max_size=40))
def test_names_from_files_stay_inside_or_are_refused(name: str) -> None:
    for check in (safe_name, checked_name):
        try:
            path = PurePosixPath(check(name))
        except InputError:
            continue
        assert not path.is_absolute()
        assert ".." not in path.parts
        assert "\0" not in str(path)


@QUICK
@given(
    array=hnp.arrays(
        st.sampled_from([np.float16, np.float32, np.float64, np.uint16, np.int64, np.complex64]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    ),
    suffix=st.sampled_from([".npy", ".npz"]),
)
def test_any_array_as_depth_is_read_as_float32_or_refused(
    array: np.ndarray, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, array)
    else:
        np.savez(path, array)
    try:
        depth = read_depth_file(path)
    except InputError:
        return
    assert depth.dtype == np.float32
    assert depth.ndim == 2
    assert not np.isinf(depth).any()


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([print], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "view.npz", np.array([print], dtype=object))
    with pytest.raises(InputError, match="Python objects"):
        read_depth_file(tmp_path / "a.npy")
    with pytest.raises(InputError, match=r"view\.npz"):
        ItemStore(tmp_path, "").arrays("view")


@QUICK
@given(value=JSON, record=JSON)
def test_any_json_as_manifest_or_record_counts_as_absent(
    value: Any, record: Any, tmp_path: Path
) -> None:
    content = {"fingerprint": "f", "file": value, "record": record}
    for sealed in (False, True):
        plain = json.loads(json.dumps(content))
        seal = {"sha256_of_content": hash_json(plain)} if sealed else {}
        (tmp_path / "view.json").write_text(json.dumps({**plain, **seal}))
        (tmp_path / "manifest.json").write_text(json.dumps(value))
        assert not ItemStore(tmp_path, "f").is_done("view")
        assert isinstance(ItemStore(tmp_path, "f").record("view"), dict)
        assert Manifest.read(tmp_path) is None


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../../outside"])
def test_a_well_sealed_manifest_that_names_other_files_is_not_believed(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "outside").write_bytes(b"abc")
    seed = json.loads(TARGETS["manifest"].seeds()[0])
    for files, believed in ((seed["files"], True), ({name: seed["files"]["a"]}, False)):
        write_sealed(tmp_path / "manifest.json", {**seed, "files": files})
        assert (Manifest.read(tmp_path) is not None) == believed


@pytest.mark.parametrize("name", ["../outside.png", "/etc/hostname", ""])
def test_a_table_that_names_pictures_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    table = json.loads(TARGETS["table"].seeds()[0])
    table["photos"][0]["name"] = name
    (tmp_path / "prepare").mkdir()
    (tmp_path / "prepare" / "table.json").write_text(json.dumps(table))
    with pytest.raises(InputError):
        read_table(Workspace(tmp_path))


def finite(value: Any) -> Any:
    """`value` with None for what is not finite."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@QUICK
@given(value=st.dictionaries(st.text(max_size=5), JSON))
def test_what_is_sealed_comes_back_and_a_change_is_seen(
    value: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "sealed.json"
    write_sealed(path, value)
    json.loads(path.read_text(), parse_constant=pytest.fail)  # NaN and Infinity are not JSON
    back = read_sealed(path)
    assert json.dumps(back, sort_keys=True) == json.dumps(finite(value), sort_keys=True)
    path.write_text(path.read_text().replace("{", '{"more": 1,', 1))
    assert read_sealed(path) is None


@pytest.mark.parametrize("seed", range(6))
def test_a_mutated_model_is_read_or_refused_and_ends_no_process(
    seed: int, tmp_path: Path, survived: Counter[str]
) -> None:
    from refdepth.io.colmap import to_reconstruction
    from refdepth.sfm.model_entry import read_model
    from refdepth.synthetic import make_scene

    model = tmp_path / "model"
    model.mkdir()
    scene = make_scene(views=3, width=96, height=72).to_scene(tmp_path / "photos")
    to_reconstruction(scene).write(str(model))
    rng = np.random.default_rng(seed)
    path = model / ("cameras.bin", "images.bin", "points3D.bin")[seed % 3]
    data = bytearray(path.read_bytes())
    for at in rng.integers(8, len(data), 1 + seed):
        data[at] = rng.integers(256)
    struct.pack_into("<d", data, int(rng.integers(8, len(data) - 8)), math.nan)
    path.write_bytes(bytes(data))
    refused = str(model)
    try:
        read_model(model, tmp_path / "out")
    except RefdepthError as error:
        refused = str(error)
    assert str(model) in refused
    assert {p.name for p in tmp_path.iterdir()} <= {"model", "out", "photos"}
    survived["mutated files"] += 1
