"""train.py, started by runner: the mistakes that it reports."""

import shutil

import pytest

from helpers.commands import (
    SMALL,
    assert_user_error,
    call_here,
)
from imagenet.runtime.compat import mx
from train import complete_network, parse_args, with_image_sizes

pytestmark = pytest.mark.usefixtures('device')


def run(data, workspace, *options, **settings):
    return call_here('./runner', *SMALL, '--data-root', data, '--workspace', workspace, *options, **settings)


class TestBadInput:
    """Each mistake is reported in one line, with exit code 2."""

    def test_missing_data_root(self, tmp_path):
        assert_user_error(run('/nowhere', tmp_path), '--data-root /nowhere: no such folder')

    def test_missing_record_file(self, tmp_path):
        assert_user_error(run(tmp_path, tmp_path), tmp_path / 'train.rec', 'cannot read this record file')

    @pytest.fixture
    def data(self, small_data, tmp_path):
        return shutil.copytree(small_data, tmp_path / 'data')

    def test_empty_record_file(self, data, tmp_path):
        (data / 'train.rec').write_bytes(b'')
        assert_user_error(run(data, tmp_path), data / 'train.rec', 'is empty')

    def test_names_of_files(self, data, tmp_path):
        assert_user_error(run(data, tmp_path, '--log', 'sub/a.log'), '--log sub/a.log', '--workspace')
        assert_user_error(run(data, tmp_path, '--model-prefix', 'sub/model'), '--model-prefix sub/model')
        assert_user_error(run(data, tmp_path, '--log', 'report.json'), '--report report.json', 'names must differ')

    def test_index_of_another_file(self, data, tmp_path):
        shutil.copy(data / 'val.idx', data / 'train.idx')
        assert_user_error(run(data, tmp_path), data / 'train.rec', 'the index belongs to another file')

    def test_fewer_classes_than_labels(self, data, tmp_path):
        assert_user_error(run(data, tmp_path, '--num-classes', '5'), '--num-classes 5 allows 0 to 4')

    def test_unknown_option(self, data, tmp_path):
        result = run(data, tmp_path, '--no-such-option', '1')
        assert_user_error(result, 'unrecognized arguments: --no-such-option 1', '--help')

    @pytest.mark.only_on_cpu('tests a limit of CPUs')
    def test_float16_on_a_cpu(self, data, tmp_path):
        assert_user_error(run(data, tmp_path, '--dtype', 'float16'), '--dtype float16', 'use --dtype float32')

    @pytest.mark.parametrize('workspace', ['file', 'file/below'])
    def test_unwritable_workspace(self, data, tmp_path, workspace):
        (tmp_path / 'file').touch()
        assert_user_error(run(data, tmp_path / workspace), f'--workspace {tmp_path / workspace}: cannot write there')

    @pytest.mark.parametrize('mode', ['val', 'pred'])
    def test_mode_without_a_network(self, data, tmp_path, mode):
        assert_user_error(run(data, tmp_path, '--mode', mode), f'--mode {mode} needs a network')

    @pytest.mark.only_on_cpu('needs a machine without GPUs')
    def test_gpu_where_there_is_none(self, data, tmp_path):
        if mx.context.num_gpus():
            pytest.skip('this machine has a GPU')
        assert_user_error(
            run(data, tmp_path, '--device', 'gpu'),
            '--device gpu: the installed MXNet supports only CPUs',
            'setup.sh --gpu',
        )

    @pytest.mark.parametrize(
        'option',
        [('--disp-batches', '0'), ('--seed', '-1'), ('--warmup-epochs', '-1'), ('--label-smoothing', '1'),
         ('--save-frequency', '-2'), ('--num-layers', '42'), ('--lr', 'nan'), ('--mom', '1'), ('--wd', '-1'),
         ('--batchnorm-eps', '0'), ('--batchnorm-mom', '1.5'), ('--cutmix', '-1'), ('--mix-switch-prob', '1.1'),
         ('--random-erasing', '2'), ('--mixup-off-epoch', '-1'), ('--bce-target-threshold', '1'),
         ('--randaugment-magnitude', '31'), ('--randaugment-layers', '0')],
    )  # fmt: skip
    def test_values_out_of_range(self, data, tmp_path, option):
        assert_user_error(run(data, tmp_path, *option), f'{option[0]} {option[1]}')

    @pytest.mark.parametrize(
        ('options', 'expected'),
        [
            (('--cutmix', '1', '-b', '1'), '--cutmix 1: a batch of one image has no pairs'),
            (('--mix-switch-prob', '0.3', '--mixup', '0.2'), '--mix-switch-prob 0.3: needs --mixup and --cutmix'),
            (('--mixup-off-epoch', '5'), '--mixup-off-epoch 5: needs --mixup or --cutmix'),
            (('--auto-augment', 'augmix'), "--auto-augment: invalid choice: 'augmix'"),
            (('--randaugment-layers', '3'), '--randaugment-layers 3: needs --auto-augment randaugment'),
            (('--bce-target-threshold', '0.2'), '--bce-target-threshold 0.2: needs --bce-loss'),
        ],
    )
    def test_augmentation_that_is_impossible(self, data, tmp_path, options, expected):
        assert_user_error(run(data, tmp_path, *options), expected)


@pytest.mark.parametrize(
    ('options', 'resize'),
    [
        ((), 256),
        (('--val-image-size', '288'), 329),
        (('--val-image-size', '288', '--data-val-resize', '300'), 300),
        (('--val-image-size', '288', '--crop-fraction', '0.9'), 320),
        (('--image-shape', '3,160,160', '--data-val-resize', '182', '--val-image-size', '224'), 182),
    ],
)
def test_validation_images_of_another_size(options, resize):
    """The crop covers the same share of a validation image, unless an option says otherwise."""
    given = parse_args(options)
    args, _ = complete_network(given)
    args = with_image_sizes(args, is_resize_given=given.data_val_resize is not None)
    assert args.data_val_resize == resize
    assert args.image_shape[1] == (given.val_image_size or 224)
    assert args.training_stages[0].image_size == ((160, 160) if '3,160,160' in options else (224, 224))
