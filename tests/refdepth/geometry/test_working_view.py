"""What is kept of a photo."""

import weakref

import numpy as np

from refdepth.geometry.working_view import WorkingView
from refdepth.types.camera import PinholeCamera
from refdepth.types.scene import PosedImage

CAMERA = PinholeCamera(K=np.array([[50.0, 0, 20], [0, 50, 15], [0, 0, 1]]), width=40, height=30)


def test_a_loaded_view_keeps_no_photo_and_loads_it_when_asked():
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    photos = []

    def load():
        photo = PosedImage(camera=CAMERA, cam_from_world=np.eye(4), image=image.copy())
        photos.append(weakref.ref(photo.image))
        return photo

    view = WorkingView.loaded(load, max_pixels=10**6, least_factor=2)
    assert [photo() for photo in photos] == [None]
    luma = (image / 255) @ [0.299, 0.587, 0.114]
    blocks = luma.reshape(15, 2, 20, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(view.gray, blocks, atol=1e-6)
    assert np.array_equal(view.photo().image, image)
    assert [photo() for photo in photos] == [None, None]


def test_what_is_derived_is_computed_once_and_counts_as_memory():
    image = np.full((30, 40, 3), 128, np.uint8)
    photo = PosedImage(camera=CAMERA, cam_from_world=np.eye(4), image=image)
    view = WorkingView.of(photo, max_pixels=10_000)
    before = view.nbytes
    made = [view.derived("double", lambda: 2 * view.gray) for _ in range(2)]
    assert made[0] is made[1]
    assert view.nbytes == before + made[0].nbytes
    assert view.derived("other", lambda: view.gray + 1) is not made[0]
