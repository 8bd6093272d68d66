"""progress.py: the lines that are printed if there is no terminal."""

import re

from imagenet.datasets import progress


def test_lines(capsys, monkeypatch):
    monkeypatch.setattr(progress, 'SECONDS_BETWEEN_LINES', 0)
    with progress.progress(10, done=3) as advance:
        advance()
        advance()
    lines = capsys.readouterr().out.splitlines()
    assert [re.sub(r', [0-9]+ images/s, [0-9]+:[0-9]+ left$', '', line) for line in lines] == [
        '4 of 10 images',
        '5 of 10 images',
    ]


def test_bytes_have_prefixes(capsys, monkeypatch):
    monkeypatch.setattr(progress, 'SECONDS_BETWEEN_LINES', 0)
    with progress.progress(5_000_000, unit='bytes') as advance:
        advance(1_234_567)
    assert re.fullmatch(r'1\.23M of 5\.00M bytes, [0-9.]+[kMGTP]? ?bytes/s, 00:00 left\n', capsys.readouterr().out)


def test_no_lines_in_a_short_time(capsys):
    with progress.progress(10) as advance:
        advance()
    assert capsys.readouterr().out == ''
