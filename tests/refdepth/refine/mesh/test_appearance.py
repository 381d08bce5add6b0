"""What is compared between pictures."""

import pytest
import torch

from refdepth.refine.mesh.appearance import local_contrast


def test_local_contrast_does_not_depend_on_the_number_of_threads():
    luma = torch.rand((480, 641), generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            found.append(local_contrast(luma, 9))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_local_contrast_does_not_depend_on_the_exposure():
    luma = torch.rand((40, 60), generator=torch.Generator().manual_seed(0))
    assert local_contrast(luma, 9) == pytest.approx(local_contrast(0.4 * luma, 9), abs=1e-5)
