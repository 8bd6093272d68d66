"""A sample of the mutations of `make fuzz`; see run.py. Programs refuse hostile files and options in a line."""

import pytest

from fuzz.assets import make_assets
from fuzz.kinds import KINDS
from fuzz.run import Finding, Worker, fuzz
from helpers.commands import PROJECT

SEED = 'tests'
# About two seconds each, in addition to the start of a process that loads MXNet.
SAMPLES = {**dict.fromkeys(KINDS, 12), 'report': 60, 'runner options': 30}

pytestmark = [
    pytest.mark.program,
    pytest.mark.only_on_cpu('tests only files and options'),
    # The files are made once.
    pytest.mark.xdist_group('fuzz'),
]


@pytest.fixture(scope='module')
def assets(tmp_path_factory):
    folder = tmp_path_factory.mktemp('fuzz') / 'assets'
    folder.mkdir()
    make_assets(PROJECT, folder)
    return folder


@pytest.mark.parametrize('kind', KINDS)
def test_mutations(assets, kind):
    found = fuzz(PROJECT, assets, SEED, {kind: range(SAMPLES[kind])}, report=lambda _: None)
    assert not found, '\n\n'.join(f'{finding}\n{finding.said}' for finding in found)


@pytest.mark.parametrize(
    ('body', 'what'),
    [
        ('raise KeyError(1)', 'traceback'),
        ('import os; os.abort()', 'crash'),
        ('import os; os._exit(0)', 'crash'),
        ('while True: pass', 'hang'),
        ('import sys; print("one\\ntwo", file=sys.stderr); sys.exit(2)', 'second line'),
        ('import sys; sys.exit(2)', 'second line'),
        ('import sys; sys.exit(77)', 'exit code'),
        ('bytearray(1 << 40)', 'traceback'),
        ('import sys; print("error: one", file=sys.stderr); sys.exit(2)', None),
        ('pass', None),
    ],
    ids=range(10),
)
def test_what_is_found(assets, tmp_path, monkeypatch, body, what):
    """The mutations run against a checkout whose report.py does something else."""
    monkeypatch.setattr('fuzz.run.SECONDS_OF_A_HANG', 2)
    (tmp_path / 'imagenet').symlink_to(PROJECT / 'imagenet')
    (tmp_path / 'report.py').write_text(f'def main():\n    {body}\n')
    with Worker(tmp_path, assets, SEED) as worker:
        found = worker.run('report', 0)
        assert [finding.what for finding in found] == ([what] if what else [])
        assert all(isinstance(finding, Finding) and finding.command[0] == 'report.py' for finding in found)
        # The worker then takes the next mutation.
        assert [finding.what for finding in worker.run('report', 1)] == ([what] if what else [])


def test_mutations_repeat(assets, tmp_path):
    from random import Random

    from fuzz.kinds import Scene

    for kind in ('report', 'packing', 'images'):
        made = []
        for folder in (tmp_path / kind / '1', tmp_path / kind / '2'):
            folder.mkdir(parents=True)
            KINDS[kind](Scene(Random('seed'), assets, folder, None))
            made.append({path.relative_to(folder): path.read_bytes() for path in folder.rglob('*') if path.is_file()})
        assert made[0] == made[1]
