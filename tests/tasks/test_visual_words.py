"""Bags of visual words against loops and what scikit-image finds."""

import numpy as np
import pytest

from layerwise.tasks.visual_words import bags, sift_descriptors

skimage = pytest.importorskip("skimage.feature")


def test_a_bag_is_the_square_root_of_each_word_s_share() -> None:
    generator = np.random.default_rng(0)
    words = generator.normal(size=(7, 128)).astype(np.float32)
    descriptors = [generator.normal(size=(n, 128)).astype(np.float32) for n in (5, 0, 1)]
    found = bags(descriptors, words)
    for bag, several in zip(found, descriptors, strict=True):
        wanted = [0.0] * 7
        for one in several:
            distances = [sum((float(a) - float(b)) ** 2 for a, b in zip(one, word, strict=True)) for word in words]
            wanted[distances.index(min(distances))] += 1 / len(several)
        assert bag.tolist() == pytest.approx([share**0.5 for share in wanted], abs=1e-6)


def test_descriptors_are_scikit_image_s_and_none_where_there_are_no_keypoints() -> None:
    picture = (np.random.default_rng(0).random((48, 40)) * 255).astype(np.uint8)
    sift = skimage.SIFT()
    sift.detect_and_extract(picture / 255)
    found = sift_descriptors([picture, np.zeros((32, 32), np.uint8), np.zeros((3, 1), np.uint8)])
    assert np.array_equal(found[0], sift.descriptors)
    assert [one.shape[0] > 0 for one in found] == [True, False, False]
