"""scripts/demo.sh: what a newcomer runs first."""

from helpers.commands import succeed
from imagenet.reporting.report_file import read_report


def test_demo_reaches_its_accuracy(tmp_path):
    """The best epoch reaches it, and the saved checkpoint has the accuracy of that epoch."""
    output = succeed('scripts/demo.sh', env={'DEMO': str(tmp_path)})
    best = max(read_report(tmp_path / 'run' / 'report.json')['metrics']['val.top1'])
    succeed('./report.py', 'check', tmp_path / 'run' / 'report.json', 'val.top1>=0.97', 'last(train.loss)<1')
    assert read_report(tmp_path / 'run' / 'validation' / 'report.json')['metrics']['val.top1'] == [best]
    assert output.split('== done')[0].splitlines()[-10].endswith('7_seven')
    for name in ('report.json', 'model_best.params', 'curves.png'):
        assert f'{tmp_path}/run/{name}' in output
        assert (tmp_path / 'run' / name).stat().st_size > 0
