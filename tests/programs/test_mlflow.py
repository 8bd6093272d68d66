"""`--mlflow`: the same curves as in report.json, in one run, also after a stop."""

import signal

from mlflow.tracking import MlflowClient

from helpers.commands import SMALL, assert_user_error, call, call_here, resumable, succeed, succeed_here
from helpers.patience import wait_until
from imagenet.reporting.report_file import read_report


def runs_in(folder):
    client = MlflowClient(tracking_uri=str(folder))
    return client, client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])


def test_training_that_is_stopped(small_data, start, tmp_path):
    command = resumable(small_data, tmp_path, '-e', '2', '--mlflow', tmp_path / 'mlruns', '--disp-batches', '1')
    process = start(*command)
    wait_until(lambda: (tmp_path / 'model_resume.json').exists(), process)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    statuses = [run.info.status for run in runs_in(tmp_path / 'mlruns')[1]]
    assert statuses in (['KILLED'], ['FINISHED'])
    succeed_here(*command)
    client, (run,) = runs_in(tmp_path / 'mlruns')
    assert run.info.status == 'FINISHED'
    assert run.data.params['batch_size'] == '16'
    assert run.data.params['num_epochs'] == '2'
    metrics = read_report(tmp_path / 'report.json')['metrics']
    points = {point.step: point.value for point in client.get_metric_history(run.info.run_id, 'epoch/val.accuracy')}
    assert [points[1], points[2]] == metrics['val.top1']
    assert client.get_metric_history(run.info.run_id, 'train.lr')
    # A validation in the workspace is another run, and leaves the file of the training run alone.
    named = (tmp_path / 'log.log.mlflow.json').read_bytes()
    load = ('--load', tmp_path / 'model_best.params', '--mode', 'val', '--mlflow', tmp_path / 'mlruns')
    succeed_here('./runner', *SMALL, *load, '--data-root', small_data, '--workspace', tmp_path)
    assert (tmp_path / 'log.log.mlflow.json').read_bytes() == named
    assert len(runs_in(tmp_path / 'mlruns')[1]) == 2


def test_failed_run(small_data, tmp_path):
    options = ('-e', '1', '-l', '1e30', '--warmup-epochs', '0', '--mlflow', tmp_path / 'mlruns')
    assert call(*resumable(small_data, tmp_path, *options)).returncode == 3
    assert [run.info.status for run in runs_in(tmp_path / 'mlruns')[1]] == ['FAILED']


def test_folder_of_the_environment(trained, small_data, tmp_path):
    """The value of the option may be left out, and an experiment may be chosen as for any program with MLflow."""
    command = ('./runner', *SMALL, '-n', '2', '-b', '8', '--mlflow', '--mode', 'val', '--data-root', small_data)
    environment = {'MLFLOW_TRACKING_URI': str(tmp_path / 'mlruns'), 'MLFLOW_EXPERIMENT_NAME': 'digits'}
    succeed(*command, '--load', trained / 'model_best.params', '--workspace', tmp_path / 'run', env=environment)
    client, (run,) = runs_in(tmp_path / 'mlruns')
    assert client.get_experiment(run.info.experiment_id).name == 'digits'
    assert (run.info.run_name, run.info.status) == ('run', 'FINISHED')
    assert (
        run.data.metrics['epoch/val.accuracy']
        == read_report(tmp_path / 'run' / 'report.json')['metrics']['val.top1'][0]
    )


def test_errors(small_data, tmp_path):
    (tmp_path / 'file').touch()
    command = resumable(small_data, tmp_path, '--mlflow', tmp_path / 'file' / 'mlruns')
    assert_user_error(call_here(*command), '--mlflow', 'file')
