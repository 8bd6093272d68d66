"""resolution_schedule.py: the stages of a run whose images grow."""

import pytest

from imagenet.common.errors import UserError
from imagenet.common.options import ArgumentParser, pick, with_changes
from imagenet.training.resolution_schedule import (
    ResolutionOptions,
    Stage,
    add_resolution_args,
    get_stages,
    stage_at,
)


def options_of(*options, **settings):
    parser = ArgumentParser()
    add_resolution_args(parser)
    settings = {'image_shape': (3, 224, 224), 'batch_size': 96, 'num_epochs': 28, **settings}
    return pick(ResolutionOptions, with_changes(parser.parse_args(options), **settings))


def test_one_stage():
    assert get_stages(options_of()) == (Stage(0, (224, 224), 96, None),)
    assert get_stages(options_of(image_shape=(3, 64, 48))) == (Stage(0, (64, 48), 96, None),)


def test_given_stages():
    options = ('--image-sizes', '0:128,13:224,25:288', '--stage-batch-sizes', '512,224,128')
    stages = get_stages(options_of(*options, '--stage-magnitudes', '5,10,15'))
    assert stages == (
        Stage(0, (128, 128), 512, 5),
        Stage(13, (224, 224), 224, 10),
        Stage(25, (288, 288), 128, 15),
    )
    assert [stage_at(stages, epoch).image_size[0] for epoch in (0, 12, 13, 24, 25, 27)] == [
        128,
        128,
        224,
        224,
        288,
        288,
    ]


def test_published_equal_stages():
    """NVIDIA's EfficientNetV2-S: four stages of 128 to 300 pixels in 350 epochs."""
    stages = get_stages(options_of('--stages', '4', image_shape=(3, 300, 300), num_epochs=350))
    assert [stage.image_size for stage in stages] == [(171, 171), (214, 214), (257, 257), (300, 300)]
    assert [stage.first_epoch for stage in stages] == [0, 87, 174, 261]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--image-sizes', '0:64,5:96,5:128'), r'--image-sizes 0:64,5:96,5:128: epochs must be in ascending order'),
        (('--image-sizes', '0:64,8:96,5:128'), r'--image-sizes 0:64,8:96,5:128: epochs must be in ascending order'),
        (('--image-sizes', '1:64'), r'--image-sizes 1:64: epochs must be in ascending order, from 0'),
        (('--image-sizes', '0:64,28:96'), r'--image-sizes 0:64,28:96: a stage begins after --num-epochs 28'),
        (('--stages', '29'), r'--stages 29: must be at most --num-epochs 28'),
        (('--base-image-size', '64'), r'--base-image-size 64: needs --stages'),
        (('--stages', '2', '--base-image-size', '256'), r'--base-image-size 256: must be at most the sides of'),
        (
            ('--stages', '2', '--stage-batch-sizes', '8'),
            r'--stage-batch-sizes 8: must be one number for each stage .* 2',
        ),
        (('--stage-magnitudes', '5,10'), r'--stage-magnitudes 5,10: must be one number for each stage .* 1'),
    ],
)
def test_contradicting_options(options, message):
    with pytest.raises(UserError, match=message):
        get_stages(options_of(*options))


def test_sizes_or_equal_stages(capsys):
    with pytest.raises(SystemExit):
        options_of('--stages', '2', '--image-sizes', '0:64')
    assert 'not allowed with' in capsys.readouterr().err
