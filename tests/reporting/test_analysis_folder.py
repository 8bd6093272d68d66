"""analysis_folder.py: folders that are no analysis, and damaged ones; programs/ has complete ones."""

import json

import pytest

from imagenet.common.errors import UserError
from imagenet.reporting.analysis_folder import PNG_START, read_analysis

SHARES = {'top1': 0.75, 'top5': 1.0, 'mean_probability': 0.8, 'expected_calibration_error': 0.1}
SUMMARY = {'images': 4, 'classes': 2, 'correct': 3, **SHARES, 'calibration': [], 'most_confused': []}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'summary.json').write_text(json.dumps(SUMMARY))
    return tmp_path


def test_pictures_that_are_there(folder):
    (folder / 'confusion.png').write_bytes(PNG_START)
    (folder / 'other.png').write_bytes(PNG_START)
    assert read_analysis(folder, '--analysis') == (SUMMARY, {'confusion.png': PNG_START})


@pytest.mark.parametrize(
    ('name', 'content', 'said'),
    [
        ('confusion.png', b'<svg onload="alert(1)"/>', 'confusion.png: not a PNG file'),
        ('mistakes.png', PNG_START + bytes(16 << 20), 'mistakes.png: not a PNG file of at most 16 MiB'),
        ('summary.json', b'{}', "'images' is a required property.*; --analysis takes a folder of --mode val --analyze"),
        ('summary.json', b'', 'not JSON'),
    ],
)
def test_damaged(folder, name, content, said):
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_analysis(folder, '--analysis')


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match='summary.json: cannot read this file'):
        read_analysis(tmp_path, '--analysis')
    (tmp_path / 'summary.json').write_text(json.dumps(SUMMARY))
    (tmp_path / 'confusion.png').mkdir()
    with pytest.raises(UserError, match='confusion.png: cannot read this picture'):
        read_analysis(tmp_path, '--analysis')
