from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from refdepth.io.json_text import to_json


def strict(text: str) -> object:
    return json.loads(text, parse_constant=pytest.fail)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_what_is_not_finite_becomes_null_at_any_depth(number: float) -> None:
    value = {"a": number, "b": [1.5, (number, {"c": np.array([number, 2.0])})]}
    assert strict(to_json(value)) == {"a": None, "b": [1.5, [None, {"c": [None, 2.0]}]]}


def test_numpy_values_and_paths_have_their_plain_form() -> None:
    value = {"n": np.int64(3), "x": np.float64(0.1), "ok": np.True_, "at": Path("a/b")}
    assert strict(to_json(value)) == {"n": 3, "x": 0.1, "ok": True, "at": "a/b"}


def test_layout_is_that_of_the_standard_library() -> None:
    value = {"b": [1, 2], "a": "ä"}
    assert to_json(value) == '{"b":[1,2],"a":"\\u00e4"}'
    assert to_json(value, indent=1, sort_keys=True) == json.dumps(value, indent=1, sort_keys=True)


def test_what_has_no_json_form_is_refused() -> None:
    with pytest.raises(TypeError):
        to_json({"a": object()})
