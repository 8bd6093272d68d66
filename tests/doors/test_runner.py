"""runner: the commands that it builds, as shown by --dry-run."""

import os
import shlex

import pytest

from helpers.commands import PROJECT, assert_user_error, call_here, succeed_here
from imagenet.launcher.worker_env import GPU, GPU_COMMUNICATION


def dry_run(*options, env=None):
    """Return the environment, the words before train.py and the options of the command that would be started."""
    lines = succeed_here('./runner', '--dry-run', *options, env=env or {}).splitlines()
    environment = dict(line[:-2].split('=', 1) for line in lines[:-1])
    words = shlex.split(lines[-1])
    start = words.index(str(PROJECT / 'train.py'))
    options = dict(zip(words[start + 1 :: 2], words[start + 2 :: 2]))
    return environment, words[:start], options


def test_defaults_on_a_cpu():
    _, command, options = dry_run('--device', 'cpu')
    root = '/data/imagenet/train-val-recordio-passthrough'
    assert len(command) == 1
    assert options == {
        '--mode': 'train_val',
        '--device': 'cpu',
        '--dtype': 'float32',
        '--kv-store': 'horovod',
        '--batch-size': '192',
        '--num-epochs': '90',
        '--lr': '0.192',
        '--fuse-bn-relu': '1',
        '--data-train': f'{root}/train.rec',
        '--data-val': f'{root}/val.rec',
    }


def test_batch_and_learning_rate_follow_the_devices():
    environment, command, options = dry_run('-n', '8', '-b', '64', '-l', '0.1', '-e', '3', '--device', 'cpu')
    assert (options['--batch-size'], options['--lr'], options['--num-epochs']) == ('512', '0.2', '3')
    assert command[1:6] == ['-m', 'imagenet.runtime.quick_horovodrun', '--gloo', '-np', '8']
    assert environment['PYTHONPATH'].split(os.pathsep)[0] == str(PROJECT)


def test_accumulated_batches_count_for_the_learning_rate():
    _, _, options = dry_run('-n', '2', '-b', '64', '--grad-accum-steps', '4', '--device', 'cpu')
    assert (options['--batch-size'], options['--lr'], options['--grad-accum-steps']) == ('128', '0.512', '4')


def test_mixed_precision_keeps_float32_parameters():
    assert dry_run('--device', 'gpu', '--amp')[2]['--dtype'] == 'float32'


def test_gpus_are_asked_nothing():
    environment, command, options = dry_run('-n', '8', '--device', 'gpu')
    assert command[3:6] == ['--gloo', '-np', '8']
    expected = {'--dtype': 'float16', '--fuse-bn-relu': '1', '--fuse-bn-add-relu': '1', '--input-layout': 'NCHW'}
    expected.update({f'--{name}-layout': 'NHWC' for name in ('conv', 'batchnorm', 'pooling')})
    assert expected.items() <= options.items()
    assert options['--input-channels'] == '4'
    assert {**GPU, **GPU_COMMUNICATION}.items() <= environment.items()
    alone = dry_run('--device', 'gpu')[0]
    assert GPU.items() <= alone.items()
    assert not any(name.startswith('HOROVOD') for name in alone)
    assert dry_run('--device', 'gpu', env={'MXNET_ENABLE_CUDA_GRAPHS': '0'})[0]['MXNET_ENABLE_CUDA_GRAPHS'] == '0'


def test_form_of_the_network_on_gpus():
    channels = dry_run('--device', 'gpu', '--data-backend', 'synthetic')[2]['--input-channels']
    assert channels == '4'
    float32 = dry_run('--device', 'gpu', '--dtype', 'float32')[2]
    assert not any('layout' in name or 'fuse' in name for name in float32)


def test_one_process_for_all_gpus():
    for device in ('gpu', 'cpu'):
        _, command, options = dry_run('-n', '4', '--device', device, '--kv-store', 'device')
        assert len(command) == 1
        assert options['--gpus'] == '0,1,2,3'


def test_validation_is_one_pass_unless_told_otherwise():
    assert dry_run('--mode', 'val', '--load', 'a.params')[2]['--num-epochs'] == '1'
    assert dry_run('--mode', 'val', '--load', 'a.params', '-e', '3')[2]['--num-epochs'] == '3'


def test_options_of_train_come_last_and_win():
    output = succeed_here('./runner', '--dry-run', '--device', 'cpu', '--fuse-bn-relu', '0', '--num-layers', '18')
    assert output.rstrip().endswith('--fuse-bn-relu 0 --num-layers 18')


def test_synthetic_data_needs_no_files():
    _, _, options = dry_run('--data-backend', 'synthetic')
    assert not any(name.startswith('--data-train') for name in options)


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        (('--data-root', '/nowhere'), ('--data-root /nowhere: no such folder', 'prepare_imagenet.sh')),
        (('-n', '0'), ('--ngpus 0',)),
        (('-b', '0'), ('--batch-size 0',)),
    ],
)
def test_bad_options(options, expected):
    assert_user_error(call_here('./runner', '--device', 'cpu', *options), *expected)


def test_many_hosts():
    environment, command, options = dry_run('-H', 'a:4,b:4', '--device', 'gpu', '--network-interface', 'eth0')
    assert command[3:10] == ['--gloo', '-np', '8', '-H', 'a:4,b:4', '--network-interfaces', 'eth0']
    assert options['--batch-size'] == str(8 * 192)
    assert environment['HOROVOD_GLOO_IFACE'] == environment['NCCL_SOCKET_IFNAME'] == 'eth0'
    assert environment['HOROVOD_FUSION_THRESHOLD'] == '67108864'
    assert dry_run('-H', 'a:4,b:4', '-n', '6', '--device', 'gpu')[1][6:8] == ['-H', 'a:4,b:4']


def test_hostfile(tmp_path):
    (tmp_path / 'hosts').write_text('a slots=2\nb slots=1\n')
    _, command, _ = dry_run('--hostfile', tmp_path / 'hosts', '--ssh-port', '2222', '--device', 'gpu')
    assert command[4:10] == ['-np', '3', '-H', 'a:2,b:1', '--ssh-port', '2222']


def test_launchers():
    assert dry_run('-n', '2', '--launcher', 'mpi', '--device', 'gpu')[1][3] == '--mpi'
    _, command, options = dry_run('--launcher', 'none', '-n', '2', '--kv-store', 'device', '--device', 'gpu')
    assert len(command) == 1
    assert options['--gpus'] == '0,1'
