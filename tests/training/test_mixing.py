"""mixing.py, mixup.py, cutmix.py and erasing.py: what happens to images and labels on the device."""

import numpy as np
import pytest

from imagenet.common.errors import UserError
from imagenet.input_pipeline.transforms import InputForm, as_network_input
from imagenet.runtime.compat import mx
from imagenet.runtime.seeds import derive_seed
from imagenet.training.erasing import AREA
from imagenet.training.mixing import Mixing, MixingOptions, check_pairs
from imagenet.training.mixup import MIXUP_STREAM

BATCH = 16
MOMENT = (2, 7, 0, 0)
OFF = {'mixup': 0, 'cutmix': 0, 'mix_switch_prob': 0.5, 'mixup_off_epoch': 0, 'random_erasing': 0}
KINDS = {'mixup': {'mixup': 0.4}, 'cutmix': {'cutmix': 1.0}, 'erasing': {'random_erasing': 0.5}}


def make_mixing(**changes):
    return Mixing(MixingOptions(**{**OFF, 'input_layout': 'NCHW', 'seed': 3, **changes}))


def make_batch(size=BATCH, side=32):
    random = np.random.RandomState(5)
    images = random.standard_normal((size, 3, side, side)).astype(np.float32)
    return mx.nd.array(images), mx.nd.array(random.randint(0, 10, size))


def constant_images(size, side=20):
    """Return images `(size, 3, side, side)` whose pixels all have the number of the image, which is its label, too."""
    numbers = mx.nd.arange(size)
    return mx.nd.broadcast_to(numbers.reshape((-1, 1, 1, 1)), (size, 3, side, side)), numbers


def numbers(*arrays):
    return [array.asnumpy() for array in arrays]


def test_mixup_mixes_images_and_labels():
    images, labels = make_batch()
    mixed, targets = make_mixing(mixup=0.4)(images, labels, MOMENT)
    random = np.random.RandomState(derive_seed(3, MIXUP_STREAM, *MOMENT))
    shares = random.beta(0.4, 0.4, size=BATCH).astype(np.float32)
    partners = random.permutation(BATCH)
    assert len(set(shares)) == BATCH
    by_hand = shares[:, None, None, None] * images.asnumpy()
    by_hand += (1 - shares)[:, None, None, None] * images.asnumpy()[partners]
    np.testing.assert_allclose(mixed.asnumpy(), by_hand, atol=1e-6)
    np.testing.assert_array_equal(targets.shares.asnumpy(), shares)
    np.testing.assert_array_equal(targets.labels.asnumpy(), labels.asnumpy())
    np.testing.assert_array_equal(targets.partner_labels.asnumpy(), labels.asnumpy()[partners])
    larger = np.where(shares >= 0.5, labels.asnumpy(), labels.asnumpy()[partners])
    np.testing.assert_array_equal(targets.likeliest().asnumpy(), larger)


def test_cutmix_replaces_a_box_and_weights_labels_by_what_is_left():
    """Each pixel is that of one of two images, and the own label's share is that of the own pixels, also at borders."""
    images, labels = constant_images(64)
    mixed, targets = make_mixing(cutmix=1.0)(images, labels, MOMENT)
    mixed, shares, partners = numbers(mixed, targets.shares, targets.partner_labels)
    assert sorted(partners) == list(range(64))
    reaches_border = []
    for own, (image, share, partner) in enumerate(zip(mixed, shares, partners)):
        replaced = (image != own).all(axis=0)
        assert np.isin(image, (own, partner)).all()
        if partner == own:
            continue
        assert share == pytest.approx(1 - replaced.mean(), abs=1e-6)
        rows, columns = (np.flatnonzero(replaced.any(axis=axis)) for axis in (1, 0))
        if len(rows):
            assert replaced.sum() == np.ptp([*rows, rows[-1] + 1]) * np.ptp([*columns, columns[-1] + 1])
            reaches_border.append(rows[0] == 0 or columns[0] == 0 or rows[-1] == 19 or columns[-1] == 19)
    assert 0 < sum(reaches_border) < len(reaches_border)


@pytest.mark.parametrize('kind', ['mixup', 'cutmix'])
def test_share_of_pixels_is_the_weight_of_the_label(kind):
    """On average over many draws, a pixel of an image is as much its own as its label is; for Beta(a, a) without
    clipping, that is half.
    """
    mix, pixels, weights = make_mixing(**KINDS[kind]), [], []
    own, labels = constant_images(64)
    for step in range(100):
        mixed, targets = mix(own, labels, (0, step, 0, 0))
        mixed, shares, partners = numbers(mixed, targets.shares, targets.partner_labels)
        differ = partners != np.arange(64)
        share = (mixed.mean(axis=(1, 2, 3)) - partners)[differ] / (np.arange(64) - partners)[differ]
        np.testing.assert_allclose(share, shares[differ], atol=1e-3)
        pixels.extend(share)
        weights.extend(shares[differ])
    assert np.mean(pixels) == pytest.approx(np.mean(weights), rel=0.01)
    if kind == 'mixup':
        assert np.mean(weights) == pytest.approx(0.5, rel=0.02)
    else:
        # A box of area a keeps, on average, ((1 - b / 4) of each side b = sqrt(a)): E[1 - a (1 - sqrt(a) / 4)^2].
        area = np.linspace(0, 1, 100_001)
        assert np.mean(weights) == pytest.approx(np.mean(1 - area * (1 - np.sqrt(area) / 4) ** 2), rel=0.02)


def test_erasing_draws_noise_in_boxes():
    """The number of boxes, their area and aspect ratio, and the noise in them."""
    erase = make_mixing(random_erasing=0.25)
    images, labels = mx.nd.full((200, 3, 60, 60), 7), mx.nd.zeros(200)
    areas, ratios, noise = [], [], []
    for step in range(5):
        erased, targets = erase(images, labels, (0, step, 0, 0))
        assert targets.shares is None
        for image in erased.asnumpy():
            is_noise = (image != 7).all(axis=0)
            if not is_noise.any():
                continue
            height, width = (np.ptp(np.flatnonzero(is_noise.any(axis=axis))) + 1 for axis in (1, 0))
            assert is_noise.sum() == height * width
            areas.append(height * width / 60**2)
            ratios.append(height / width)
            noise.append(image[:, is_noise].ravel())
    # 3 standard deviations.
    assert abs(len(areas) - 250) < 41
    assert AREA[0] * 0.9 < min(areas) < 0.04 < 0.3 < max(areas) < AREA[1] * 1.05
    assert 0.27 < min(ratios) < 0.4 < 2.5 < max(ratios) < 3.6
    assert np.mean(np.log(ratios)) == pytest.approx(0, abs=0.15)
    noise = np.concatenate(noise)
    assert (noise.mean(), noise.std()) == (pytest.approx(0, abs=0.01), pytest.approx(1, abs=0.01))
    # Each pixel and channel has its own.
    assert len(set(noise[:1000].tolist())) == 1000


@pytest.mark.parametrize('kind', KINDS)
def test_layouts_channels_and_precision(kind):
    """Another layout, a fourth channel of zeros and float16 change nothing but the form of the images."""
    images, labels = make_batch()
    expected, expected_targets = make_mixing(**KINDS[kind])(images, labels, MOMENT)
    assert not np.array_equal(expected.asnumpy(), images.asnumpy())
    for channels, layout, dtype in ((4, 'NHWC', 'float32'), (4, 'NCHW', 'float32'), (3, 'NHWC', 'float16')):
        form = InputForm((channels, 32, 32), layout, dtype)
        mix = make_mixing(**KINDS[kind], input_layout=layout)
        mixed, targets = mix(as_network_input(images, form), labels, MOMENT)
        assert mixed.dtype == np.dtype(dtype)
        tolerance = 0 if dtype == 'float32' else 5e-3
        np.testing.assert_allclose(mixed.asnumpy(), as_network_input(expected, form).asnumpy(), atol=tolerance)
        if targets.shares is not None:
            np.testing.assert_array_equal(*numbers(targets.shares, expected_targets.shares))


@pytest.mark.parametrize('kind', KINDS)
def test_the_moment_determines_what_is_drawn(kind):
    images, labels = make_batch()
    before = images.asnumpy()

    def draw(moment, seed=3):
        return make_mixing(**KINDS[kind], seed=seed)(images, labels, moment)[0].asnumpy()

    again = draw(MOMENT)
    np.testing.assert_array_equal(draw(MOMENT), again)
    others = [draw(moment) for moment in ((3, 7, 0, 0), (2, 8, 0, 0), (2, 7, 1, 0), (2, 7, 0, 1))]
    assert len({other.tobytes() for other in (again, draw(MOMENT, seed=4), *others)}) == 6
    # A backend may return the same images again.
    np.testing.assert_array_equal(images.asnumpy(), before)


@pytest.mark.parametrize('kind', KINDS)
def test_other_image_sizes(kind):
    """Images may grow during training."""
    mix = make_mixing(**KINDS[kind])
    for side in (32, 48, 32, 1):
        images, labels = make_batch(side=side)
        mixed, _ = mix(images, labels, MOMENT)
        np.testing.assert_array_equal(*numbers(mixed, make_mixing(**KINDS[kind])(images, labels, MOMENT)[0]))


@pytest.mark.parametrize('probability', [0, 0.25, 1])
def test_choice_between_mixup_and_cutmix(probability):
    images, labels = constant_images(16)
    mix = make_mixing(mixup=0.4, cutmix=1.0, mix_switch_prob=probability)
    of_kind = {kind: make_mixing(**KINDS[kind]) for kind in ('mixup', 'cutmix')}
    counts = dict.fromkeys(of_kind, 0)
    for step in range(100):
        moment = (0, step, 0, 0)
        mixed = mix(images, labels, moment)[0].asnumpy()
        for kind, alone in of_kind.items():
            counts[kind] += np.array_equal(mixed, alone(images, labels, moment)[0].asnumpy())
    assert sum(counts.values()) == 100
    assert abs(counts['cutmix'] - 100 * probability) <= 3 * 10 * np.sqrt(probability * (1 - probability))


def test_mixing_ends_and_erasing_does_not():
    images, labels = make_batch()
    mix = make_mixing(mixup=0.4, cutmix=1.0, random_erasing=0.5, mixup_off_epoch=3)
    alone = make_mixing(random_erasing=0.5)
    for epoch, is_mixed in ((2, True), (3, False), (4, False)):
        mixed, targets = mix(images, labels, (epoch, 0, 0, 0))
        assert (targets.partner_labels is not None) == is_mixed
        is_only_erased = np.array_equal(*numbers(mixed, alone(images, labels, (epoch, 0, 0, 0))[0]))
        assert is_only_erased != is_mixed


def test_without_options_nothing_is_copied():
    images, labels = make_batch()
    mixed, targets = make_mixing()(images, labels, MOMENT)
    assert mixed is images
    assert targets.likeliest() is labels


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'mix_switch_prob': 0.3, 'cutmix': 1.0}, '--mix-switch-prob 0.3: needs --mixup and --cutmix'),
        ({'mixup_off_epoch': 5}, '--mixup-off-epoch 5: needs --mixup or --cutmix'),
    ],
)
def test_contradicting_options(changes, message):
    with pytest.raises(UserError, match=message):
        make_mixing(**changes)


def test_batch_of_one():
    options = MixingOptions(**{**OFF, 'cutmix': 1.0}, input_layout='NCHW', seed=3)
    check_pairs(options, 2)
    with pytest.raises(UserError, match='--cutmix 1: a batch of one image has no pairs'):
        check_pairs(options, 1)
    check_pairs(MixingOptions(**OFF, input_layout='NCHW', seed=3), 1)
