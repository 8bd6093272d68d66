"""The table of many networks: its order, its columns and its formats."""

import csv
from pathlib import Path

import pytest

from imagenet.common.errors import UserError
from imagenet.inference.comparison import FORMATS, ComparedNetwork, write_comparison
from imagenet.inference.example_results import check_table_file


def validated(path, top1, **metrics):
    return ComparedNetwork(path, 'resnetv15-50', '224x224', {'top1': top1, 'loss': 1.5, 'total_ips': 99.96, **metrics})


NETWORKS = [
    ComparedNetwork('a.params', error='a.params: cannot read this file'),
    validated('b|c.params', 0.75),
    validated('d.params', 0.7512345),
    validated('e.params', 0.75),
]


def test_csv(tmp_path):
    write_comparison(tmp_path / 'table.csv', NETWORKS)
    with (tmp_path / 'table.csv').open(newline='') as file:
        columns, *rows = csv.reader(file)
    assert columns == ['network', 'model', 'image_size', 'top1', 'loss', 'images_per_second', 'error']
    # The most accurate first, equal ones by their names, and those that failed last.
    assert [row[0] for row in rows] == ['d.params', 'b|c.params', 'e.params', 'a.params']
    assert rows[0] == ['d.params', 'resnetv15-50', '224x224', '0.7512345', '1.5', '99.96', '']
    assert rows[-1] == ['a.params', '', '', '', '', '', 'a.params: cannot read this file']


def test_markdown(tmp_path):
    write_comparison(tmp_path / 'table.md', NETWORKS)
    lines = (tmp_path / 'table.md').read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip('|').split(' | ')] for line in lines]
    assert cells[0] == ['network', 'model', 'image_size', 'top1', 'loss', 'images_per_second', 'error']
    assert set(lines[1]) == {'|', '-'}
    assert cells[2] == ['d.params', 'resnetv15-50', '224x224', '0.7512', '1.5000', '100.0', '']
    assert cells[3][0] == 'b\\|c.params'
    assert len({len(line) for line in lines}) == 1


def test_reassessed_labels_are_a_column(tmp_path):
    write_comparison(tmp_path / 'table.csv', [*NETWORKS, validated('f.params', 0.1, real_top1=0.2)])
    columns, first, *_, last = (tmp_path / 'table.csv').read_text().splitlines()
    assert columns == 'network,model,image_size,top1,real_top1,loss,images_per_second,error'
    assert first.startswith('d.params,resnetv15-50,224x224,0.7512345,,1.5')


def test_files_that_cannot_be_written(tmp_path):
    (tmp_path / 'folder.csv').mkdir()
    for name, message in (
        ('table.json', r'must be the name of a \.csv or \.md file'),
        ('missing/table.csv', 'its folder is missing'),
        ('folder.csv', 'is a folder'),
    ):
        with pytest.raises(UserError, match=message):
            check_table_file(Path(tmp_path / name), FORMATS, 'several networks')
