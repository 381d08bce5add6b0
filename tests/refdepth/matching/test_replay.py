"""Recorded operations, on a stand-in for a device's way to keep them."""

from __future__ import annotations

import pytest
import torch
from recorded_operations import RecordedOperations

from refdepth.matching import torch_propagation
from refdepth.matching.replay import KEPT, Replayed


def replayed(function) -> Replayed:
    return Replayed(function, RecordedOperations, device="cpu")


def system(seed: int, shape: tuple[int, int] = (23, 34)) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    height, width = shape

    def random(*size: int) -> torch.Tensor:
        return torch.rand(size, generator=generator, dtype=torch.float64)

    return [
        random(height, width) * (random(height, width) > 0.7),
        random(height, width - 1) + 0.01,
        random(height - 1, width) + 0.01,
        random(height, width) - 0.5,
        random(height, width),
    ]


def test_a_solve_is_recorded_once_and_right_for_other_numbers() -> None:
    solve = replayed(torch_propagation._solve)
    before = RecordedOperations.captures
    for seed in range(3):
        given = system(seed)
        expected = torch_propagation._solve(*given, cycles=12)
        torch.testing.assert_close(solve(*given, cycles=12), expected, rtol=0, atol=0)
    assert RecordedOperations.captures == before + 1


def test_what_is_returned_stays_as_it_was() -> None:
    solve = replayed(torch_propagation._solve)
    first = solve(*system(0), cycles=6)
    kept = first.clone()
    solve(*system(1), cycles=6)
    assert torch.equal(first, kept)


def test_another_shape_a_start_and_other_options_are_recorded_anew() -> None:
    solve = replayed(torch_propagation._solve)
    before = RecordedOperations.captures
    for given, cycles in (
        (system(0), 6),
        (system(0, (20, 20)), 6),
        ([*system(0)[:4], None], 6),
        (system(0), 7),
        (system(1), 6),
    ):
        expected = torch_propagation._solve(*given, cycles=cycles)
        assert torch.equal(solve(*given, cycles=cycles), expected)
    assert RecordedOperations.captures == before + 4


def test_few_recordings_are_kept_the_latest_used() -> None:
    double = replayed(lambda one: 2 * one)
    before = RecordedOperations.captures
    for size in range(1, KEPT + 2):
        double(torch.ones(size))
    double(torch.ones(2))
    assert RecordedOperations.captures == before + KEPT + 1
    double(torch.ones(1))
    assert RecordedOperations.captures == before + KEPT + 2


def test_what_cannot_be_recorded_is_done_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    choosing = replayed(lambda one: one + 1 if one.sum() > 0 else one - 1)
    with caplog.at_level("INFO"):
        assert choosing(torch.ones(3)).tolist() == [2, 2, 2]
        assert choosing(-torch.ones(3)).tolist() == [-2, -2, -2]
    assert len([record for record in caplog.records if "not recorded" in record.message]) == 1


def test_on_other_devices_it_is_a_plain_call() -> None:
    before = RecordedOperations.captures
    double = Replayed(lambda one: 2 * one, RecordedOperations)
    assert double(torch.ones(2)).tolist() == [2, 2]
    assert RecordedOperations.captures == before
