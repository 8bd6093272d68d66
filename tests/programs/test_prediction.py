"""prediction.py: one image, folders and lists, with a network trained on digits."""

import csv
import json
import shutil

import pytest

from helpers.commands import SMALL, assert_user_error, call_here, succeed_here
from helpers.odd_images import png_with_size

pytestmark = pytest.mark.usefixtures('device')


@pytest.fixture(scope='module')
def predict(trained):
    """The command of a prediction, without the images to classify."""
    return './runner', *SMALL, '--mode', 'pred', '--load', trained / 'model_best.params', '--data-pred'


@pytest.fixture
def folder(small_tree, tmp_path):
    """Seventy digits in a folder per class, a broken image, and a file that is not an image."""
    folder = tmp_path / 'images'
    shutil.copytree(small_tree / 'val', folder)
    (folder / 'broken.jpg').write_bytes(b'\xff\xd8\xff no image')
    (folder / 'notes.md').write_text('no image')
    return folder


def test_folder(predict, folder, tmp_path):
    lines = succeed_here(*predict, folder, '-o', tmp_path / 'found.json').splitlines()
    results = json.loads((tmp_path / 'found.json').read_text())
    images = sorted(path for path in folder.rglob('*.jpg'))
    assert [result['file'] for result in results] == [str(path) for path in images]
    assert len(lines) == len(images) == 71
    for line, result in zip(lines, results):
        if result['file'].endswith('broken.jpg'):
            assert line.split()[0] == 'error'
            assert 'broken.jpg: not an image' in result['error']
            assert result['classes'] == []
            continue
        assert [found['probability'] for found in result['classes']] == sorted(
            (found['probability'] for found in result['classes']), reverse=True
        )
        assert len(result['classes']) == 5
        best = result['classes'][0]
        assert line.split() == [f'{best["probability"]:.4%}', best['name'], result['file']]


def test_many_images_and_some_broken_ones(predict, digits_tree, tmp_path):
    images = sorted((digits_tree / 'val').glob('*/*'))[:200]
    for number, image in enumerate(images):
        shutil.copy(image, tmp_path / f'{number:03}{image.suffix}')
    for number in (0, 77, 199):
        (tmp_path / f'{number:03}{images[number].suffix}').write_bytes(images[number].read_bytes()[:20])
    lines = succeed_here(*predict, tmp_path).splitlines()
    assert [number for number, line in enumerate(lines) if line.split()[0] == 'error'] == [0, 77, 199]
    assert len(lines) == 200


def test_image_that_declares_to_be_huge(predict, folder, tmp_path):
    """It is refused on its own line, by its header; the other images are classified."""
    (folder / 'huge\x1b.png').write_bytes(png_with_size(50_000))
    lines = succeed_here(*predict, folder, '-o', tmp_path / 'found.json').splitlines()
    (line,) = (line for line in lines if 'huge' in line)
    assert line.split()[0] == 'error'
    assert 'huge\\x1b.png: not an image that can be used: it has 50000 x 50000 pixels' in line
    assert line.endswith('more than 200000000 in all; --max-pixels sets the limit')
    assert sum(not result['error'] for result in json.loads((tmp_path / 'found.json').read_text())) == 70
    assert_user_error(call_here(*predict, folder, '--max-pixels', '100'), '28 x 28 pixels, more than 100 in all')


def test_batches_do_not_change_what_is_found(predict, folder, tmp_path):
    found = []
    for batch_size in ('1', '16', '64'):
        path = tmp_path / f'{batch_size}.json'
        succeed_here(*predict, folder, '-b', batch_size, '-o', path)
        found.append([result['classes'] for result in json.loads(path.read_text())])
    for other in found[1:]:
        for classes, expected in zip(other, found[0]):
            assert [c['probability'] for c in classes] == pytest.approx([c['probability'] for c in expected], rel=1e-3)


def test_list_and_table(predict, folder, tmp_path):
    """Paths in a list are relative to the list's folder."""
    images = [path.relative_to(folder) for path in sorted(folder.rglob('*.jpg'))[:3]]
    (folder / 'list.txt').write_text('\n'.join(map(str, [*images, 'missing.jpg'])) + '\n\n')
    succeed_here(*predict, folder / 'list.txt', '-o', tmp_path / 'found.csv')
    rows = list(csv.reader((tmp_path / 'found.csv').open(newline='')))
    assert rows[0][:4] == ['file', 'error', 'class_1', 'probability_1']
    assert [row[0] for row in rows[1:]] == [str(folder / path) for path in [*images, 'missing.jpg']]
    assert 'cannot read this image' in rows[-1][1]
    assert all(0 < float(row[3]) <= 1 for row in rows[1:-1] if not row[1])


@pytest.mark.parametrize('fuse', [(), ('--no-fuse',)])
def test_one_image(predict, small_tree, fuse):
    image = next((small_tree / 'val' / '7_seven').iterdir())
    lines = succeed_here(*predict, image, *fuse).splitlines()
    assert len(lines) == 10
    assert sum(float(line.split('%')[0]) for line in lines) == pytest.approx(100, abs=0.01)


def test_mistakes(predict, folder, tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'empty.txt').write_text('\n')
    for options, expected in (
        ((tmp_path / 'empty',), 'this folder contains no images'),
        ((tmp_path / 'empty.txt',), 'contains no image'),
        ((tmp_path / 'missing.txt',), 'cannot read this list'),
        ((folder / 'broken.jpg',), 'not an image'),
        ((folder, '-o', tmp_path / 'found.xml'), '.csv or .json'),
        ((folder, '-o', tmp_path / 'none' / 'found.csv'), 'no such folder'),
    ):
        assert_user_error(call_here(*predict, *options), expected)
