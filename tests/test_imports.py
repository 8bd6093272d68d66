"""Which top-level programs and modules may import each other. pyproject.toml has the rules for the packages."""

import ast

import pytest

from helpers.commands import PROJECT

ALLOWED = {
    'runner': set(),
    'train.py': {'fit', 'models', 'data', 'dali'},
    'fit.py': set(),
    'models.py': set(),
    'data.py': {'dali'},
    'dali.py': set(),
    'benchmark.py': set(),
    'report.py': set(),
}
DOORS = {name.split('.')[0] for name in ALLOWED}


def imported(path):
    """Yield the top-level names of all modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split('.')[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split('.')[0]


@pytest.mark.parametrize('door', ALLOWED)
def test_door_imports_only_these_doors(door):
    assert DOORS.intersection(imported(PROJECT / door)) <= ALLOWED[door]
    assert {path.name for path in PROJECT.glob('*.py')} <= set(ALLOWED)
