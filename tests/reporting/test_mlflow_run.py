"""mlflow_run.py: a run in MLflow that resumes, ends, and survives the loss of its server."""

import shutil

import pytest
from mlflow.tracking import MlflowClient

from imagenet.common.errors import UserError
from imagenet.reporting.mlflow_run import MLflowRun


@pytest.fixture
def uri(tmp_path):
    return str(tmp_path / 'mlruns')


@pytest.fixture
def path(tmp_path):
    (tmp_path / 'run').mkdir()
    return tmp_path / 'run' / 'log.log.mlflow.json'


def runs_in(uri):
    client = MlflowClient(tracking_uri=uri)
    return client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])


def test_curves_options_and_end(uri, path):
    run = MLflowRun(uri, path, False, pytest.fail)
    run.log_options({'lr': 0.1, 'betas': [0.9, 0.999], 'load': None, **{f'option_{n}': 'x' * 9999 for n in range(150)}})
    run.log(3, {'epoch/val.accuracy': 0.5})
    (found,) = runs_in(uri)
    assert (found.info.status, found.info.run_name) == ('RUNNING', 'run')
    assert found.data.params['lr'] == '0.1'
    assert found.data.params['betas'] == '0.9,0.999'
    assert len(found.data.params) == 152
    assert found.data.metrics == {'epoch/val.accuracy': 0.5}
    run.end('KILLED')
    # Only the first end counts.
    run.end('FAILED')
    assert runs_in(uri)[0].info.status == 'KILLED'


def test_resumed_run_continues(uri, path):
    first = MLflowRun(uri, path, False, pytest.fail)
    first.log_options({'lr': 0.1})
    first.log(1, {'loss': 2.0})
    first.end('KILLED')
    second = MLflowRun(uri, path, True, pytest.fail)
    # MLflow refuses to replace a parameter.
    second.log_options({'lr': 0.2})
    second.log(2, {'loss': 1.0})
    (found,) = runs_in(uri)
    assert found.info.status == 'RUNNING'
    assert found.data.params == {'lr': '0.1'}
    history = MlflowClient(tracking_uri=uri).get_metric_history(found.info.run_id, 'loss')
    assert [(point.step, point.value) for point in history] == [(1, 2.0), (2, 1.0)]
    second.end('FINISHED')


def test_resumed_run_that_cannot_continue_is_a_new_one(uri, path, tmp_path):
    MLflowRun(uri, path, False, pytest.fail).end('FINISHED')
    other = str(tmp_path / 'other')
    MLflowRun(other, path, True, pytest.fail).end('FINISHED')
    assert len(runs_in(other)) == 1
    for content in ('', '[]', '{"uri": "x"}', '{"uri": "' + other + '", "run_id": "0123"}'):
        path.write_text(content)
        MLflowRun(other, path, True, pytest.fail).end('FINISHED')
    assert len(runs_in(other)) == 5


def test_server_that_goes_away(uri, path):
    said = []
    run = MLflowRun(uri, path, False, said.append)
    shutil.rmtree(uri)
    for step in range(3):
        run.log(step, {'loss': 1.0})
    run.end('FINISHED')
    assert len(said) == 1
    assert said[0].endswith('this run continues without MLflow')


@pytest.mark.parametrize('uri', ['http://127.0.0.1:9', 'unknown://x', 'FILE/mlruns'])
def test_where_mlflow_cannot_be(uri, path, monkeypatch):
    monkeypatch.setenv('MLFLOW_HTTP_REQUEST_MAX_RETRIES', '0')
    (path.parent / 'file').touch()
    uri = uri.replace('FILE', str(path.parent / 'file'))
    with pytest.raises(UserError, match=f'^--mlflow {uri}: .') as found:
        MLflowRun(uri, path, False, pytest.fail)
    assert '\n' not in str(found.value)
