"""Pictures as bags of visual words: SIFT descriptors, counted by the nearest centre of a vocabulary.

D. Lowe, "Distinctive image features from scale-invariant keypoints", IJCV 2004,
https://doi.org/10.1023/B:VISI.0000029664.99615.94; G. Csurka, C. Dance, L. Fan, J. Willamowski, C. Bray, "Visual
categorization with bags of keypoints", ECCV workshop 2004.

Differs from the papers: a bag holds the square roots of the words' shares, not their counts, so that pictures with many
keypoints do not weigh more. It runs in the process of the classical methods, with scikit-image and scikit-learn.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

WORDS = 256  # of a vocabulary
_MOST_DESCRIPTORS = 100_000  # that a vocabulary is made of
_DESCRIPTORS_AT_ONCE = 4096
_SMALLEST = 12  # pixels: below, scikit-image has no octave to look into
_NOTHING_FOUND = "SIFT found no features"  # how scikit-image's message begins


def sift_descriptors(pictures: Iterable[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
    """SIFT descriptors [n, 128] of each grey picture [H, W]; n is 0 where it has no keypoints."""
    from skimage.feature import SIFT

    found: list[NDArray[np.float32]] = []
    for picture in pictures:
        if min(picture.shape) < _SMALLEST:
            found.append(np.zeros((0, 128), np.float32))
            continue
        sift: Any = SIFT()
        try:
            sift.detect_and_extract(picture.astype(np.float64) / 255)
            found.append(sift.descriptors.astype(np.float32))
        except RuntimeError as error:
            if not str(error).startswith(_NOTHING_FOUND):
                raise
            found.append(np.zeros((0, 128), np.float32))
    return found


def vocabulary(descriptors: Sequence[NDArray[np.float32]], seed: int) -> NDArray[np.float32]:
    """Centres [W, 128] of k-means over all descriptors, `WORDS` of them or as many as there are descriptors.

    Raises:
        ValueError: there is no descriptor.
    """
    from sklearn.cluster import MiniBatchKMeans

    every = np.concatenate(descriptors)
    if not len(every):
        raise ValueError("SIFT finds no keypoints in the training pictures")
    if len(every) > _MOST_DESCRIPTORS:
        every = every[np.random.default_rng(seed).choice(len(every), _MOST_DESCRIPTORS, replace=False)]
    clusters: Any = MiniBatchKMeans
    means = clusters(min(WORDS, len(every)), batch_size=1024, n_init=1, random_state=seed)
    return means.fit(every).cluster_centers_.astype(np.float32)


def bags(descriptors: Sequence[NDArray[np.float32]], words: NDArray[np.float32]) -> NDArray[np.float32]:
    """Square roots of the share of each word [N, W] among a picture's descriptors; zeros where it has none."""
    found = np.zeros((len(descriptors), len(words)), np.float32)
    for bag, several in zip(found, descriptors, strict=True):
        if not len(several):
            continue
        for start in range(0, len(several), _DESCRIPTORS_AT_ONCE):
            some = several[start : start + _DESCRIPTORS_AT_ONCE]
            nearest = ((words * words).sum(1) - 2 * some @ words.T).argmin(1)  # the descriptor's own square is the same
            bag += np.bincount(nearest, minlength=len(words))
        np.sqrt(bag / len(several), out=bag)
    return found
