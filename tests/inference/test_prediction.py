"""prediction.py: images are decoded into batches, whatever cannot be read."""

import cv2
import numpy as np
import pytest

from imagenet.inference.prediction import classify
from imagenet.input_pipeline.transforms import EvaluationOptions

SIZE = 16
EVALUATION = EvaluationOptions((3, SIZE, SIZE), SIZE, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 'triangular')


class Grey:
    """An engine whose logits are a function of an image's grey value, and that keeps its batches."""

    def __init__(self):
        self.batches = []

    def start(self, images):
        self.batches.append(images)
        values = images.mean(axis=(1, 2, 3))
        return lambda: np.stack([values, np.zeros_like(values)], axis=1) / 10


@pytest.mark.parametrize('broken', [[], [0], [5], [3, 4, 5], range(10)])
def test_every_image_has_its_own_probabilities(tmp_path, broken):
    paths, engine = [tmp_path / f'{number}.png' for number in range(10)], Grey()
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), np.full((SIZE, SIZE, 3), number, np.uint8))
        if number in broken:
            path.write_bytes(b'no image')
    found = list(classify(engine, paths, 3, EVALUATION))
    assert [path for path, _ in found] == paths
    for number, (_, row) in enumerate(found):
        if number in broken:
            assert 'not an image' in row
        else:
            np.testing.assert_allclose(row[0], 1 / (1 + np.exp(-number / 10)), rtol=1e-5)
    readable = [sum(number not in broken for number in range(begin, min(begin + 3, 10))) for begin in range(0, 10, 3)]
    assert [len(batch) for batch in engine.batches] == [count for count in readable if count]
    assert all(batch.flags.c_contiguous for batch in engine.batches)
