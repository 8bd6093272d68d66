"""`--mlflow`: the options and metrics of a run in MLflow, in local files or on a server.

MLflow's own environment variables work, such as MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME and MLFLOW_RUN_NAME.
"""

import importlib.util
import json
import os
import time

from imagenet.common.errors import UserError
from imagenet.common.files import write_json
from imagenet.common.options import as_text
from imagenet.common.text import printable, shortened

LOCAL_FILES = 'mlruns'
EXPERIMENT = 'imagenet-mxnet'
# By default, a run would wait for minutes for a server that does not answer.
PATIENCE = {'MLFLOW_HTTP_REQUEST_MAX_RETRIES': '2', 'MLFLOW_HTTP_REQUEST_TIMEOUT': '10', 'GIT_PYTHON_REFRESH': 'quiet'}
# What a server accepts.
MOST_PARAMETERS_AT_ONCE = 100
LONGEST_VALUE = 500


def add_mlflow_args(group):
    group.add_argument(
        '--mlflow',
        nargs='?',
        const=os.environ.get('MLFLOW_TRACKING_URI') or LOCAL_FILES,
        metavar='URI',
        help='also log to MLflow, in this folder or on this server (default: the environment variable '
        f'MLFLOW_TRACKING_URI, else the folder {LOCAL_FILES}); needs pip install -r requirements/mlflow.txt',
    )


def check_mlflow():
    """Raise `UserError` if MLflow is not installed."""
    if importlib.util.find_spec('mlflow') is None:
        raise UserError('--mlflow: not installed: pip install -r requirements/mlflow.txt')


class MLflowRun:
    """A run in MLflow. A resumed run continues the one that its file names.

    A server may go away during training. That is one line in the log, and the run continues without MLflow.

    Args:
        uri: MLflow's tracking URI, or a folder.
        path: the file in the run's workspace that names the run.
        is_resumed: whether to continue that run.
        announce: a function that is called with a line if MLflow fails.

    Raises:
        UserError: MLflow does not work from the start.
    """

    def __init__(self, uri, path, is_resumed, announce):
        check_mlflow()
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        # Loaded here because only runs with --mlflow need it.
        from mlflow.tracking import MlflowClient

        self._announce, self._has_ended, self._has_options = announce, False, False
        try:
            self._client = MlflowClient(tracking_uri=uri)
            self._id = self._find_run(path, uri) if is_resumed else None
            if self._id is None:
                self._id = self._create_run(path, uri)
        except Exception as error:
            # MLflow raises exceptions of any library that it uses.
            raise UserError(f'--mlflow {uri}: {_reason(error)}') from None

    def _find_run(self, path, uri):
        """Return the identifier of the run in the file, which continues; None if there is none."""
        from mlflow.exceptions import MlflowException

        try:
            known = json.loads(path.read_text(encoding='utf-8'))
            if known['uri'] != uri:
                return None
            self._client.update_run(known['run_id'], status='RUNNING')
        except (OSError, ValueError, KeyError, TypeError, MlflowException):
            return None
        self._has_options = True
        return known['run_id']

    def _create_run(self, path, uri):
        name = os.environ.get('MLFLOW_EXPERIMENT_NAME') or EXPERIMENT
        experiment = self._client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(name)
        run_name = os.environ.get('MLFLOW_RUN_NAME') or path.resolve().parent.name
        run_id = self._client.create_run(experiment_id, run_name=run_name).info.run_id
        write_json(path, {'uri': uri, 'run_id': run_id})
        return run_id

    def log_options(self, options):
        """Log the options of the run, values by name; those of a run that continues are known."""
        if self._has_options:
            return
        from mlflow.entities import Param

        # MLflow's parameters cannot be replaced.
        self._has_options = True
        params = [
            Param(name, shortened(as_text(value), LONGEST_VALUE))
            for name, value in options.items()
            if value not in (None, '')
        ]
        for start in range(0, len(params), MOST_PARAMETERS_AT_ONCE):
            self._send('log_batch', params=params[start : start + MOST_PARAMETERS_AT_ONCE])

    def log(self, position, values):
        """Add a point to each curve, at an integer on the horizontal axis; values are numbers by name."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._send('log_batch', metrics=[Metric(name, value, now, position) for name, value in values.items()])

    def end(self, status):
        """Set the final status, 'FINISHED', 'KILLED' or 'FAILED', of a run that has none yet."""
        if not self._has_ended:
            self._send('set_terminated', status)
            self._has_ended = True

    def _send(self, method, *args, **kwargs):
        if self._has_ended:
            return
        try:
            getattr(self._client, method)(self._id, *args, **kwargs)
        except Exception as error:
            self._has_ended = True
            self._announce(f'--mlflow: {_reason(error)}; this run continues without MLflow')


def _reason(error):
    lines = str(error).splitlines()
    return shortened(printable(lines[0] if lines else type(error).__name__))
