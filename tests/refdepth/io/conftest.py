"""The room that exports are tested on."""

from __future__ import annotations

import pytest
from exact_room import ExactRoom, make_exact_room


@pytest.fixture(scope="session")
def room(tmp_path_factory: pytest.TempPathFactory) -> ExactRoom:
    return make_exact_room(tmp_path_factory.mktemp("room"))
