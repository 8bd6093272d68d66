"""output.py: streams that go away."""

import os

import pytest

from imagenet.common import output
from imagenet.common.errors import UserError


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setattr(output, '_continues', False)
    monkeypatch.setattr(output, '_losses', [])


@pytest.fixture
def broken_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@pytest.fixture
def full_disk():
    writing = os.open('/dev/full', os.O_WRONLY)
    yield writing
    os.close(writing)


@pytest.fixture
def closed():
    """What `open_standard_streams` puts in the place of a closed descriptor."""
    writing = os.open(os.devnull, os.O_RDONLY)
    yield writing
    os.close(writing)


def stream(descriptor, number=1):
    return output.open_stream(descriptor, None, output.NAMES[number])


def test_broken_pipe_ends_a_program_once(broken_pipe):
    out = stream(broken_pipe)
    with pytest.raises(BrokenPipeError):
        print('lost', file=out)
    print('also lost', file=out, flush=True)


def test_full_disk_is_told(full_disk):
    out = stream(full_disk)
    with pytest.raises(UserError, match='standard output: cannot be written .No space left on device'):
        print('lost', file=out)
    print('also lost', file=out, flush=True)


def test_closed_stream_is_what_the_user_wanted(closed):
    print('lost', file=stream(closed), flush=True)
    assert output.new_losses() == ['standard output cannot be written: it is closed']


@pytest.mark.parametrize('descriptor', ['broken_pipe', 'full_disk', 'closed'])
def test_program_that_continues(request, descriptor):
    output.continue_without_output()
    out = stream(request.getfixturevalue(descriptor))
    for _ in range(2):
        print('lost', file=out, flush=True)
    (line,) = output.new_losses()
    assert line.startswith('standard output cannot be written: ')
    assert output.new_losses() == []


def test_errors_that_cannot_be_shown(full_disk):
    print('lost', file=stream(full_disk, 2), flush=True)
    assert output.new_losses() == ['standard error cannot be written: No space left on device']


def test_text_that_the_encoding_lacks(tmp_path):
    with (tmp_path / 'out').open('wb') as file:
        print('\udcff.jpg', file=stream(file.fileno()), flush=True)
    assert (tmp_path / 'out').read_bytes() == b'\\udcff.jpg\n'
