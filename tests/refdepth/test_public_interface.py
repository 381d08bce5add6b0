"""What `import refdepth` offers."""

from __future__ import annotations

import pytest

import refdepth


def test_every_public_name_is_there() -> None:
    assert len(set(refdepth.__all__)) == len(refdepth.__all__)
    for name in refdepth.__all__:
        assert getattr(refdepth, name).__doc__, name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="fuse_all"):
        refdepth.fuse_all  # noqa: B018
