"""symbol_file.py: graphs that MXNet would crash on are refused."""

import json

import pytest

from imagenet.checkpoints.symbol_file import read_symbol
from imagenet.common.errors import UserError
from imagenet.runtime.compat import mx


@pytest.fixture
def graph():
    """The content of a symbol of three nodes: two variables and an operator."""
    return json.loads((mx.sym.var('data') + mx.sym.var('bias')).tojson())


def read(graph, tmp_path):
    path = tmp_path / 'net-symbol.json'
    path.write_text(json.dumps(graph))
    return read_symbol(path, '--load it', 'make it again')


def test_intact(graph, tmp_path):
    assert read(graph, tmp_path) == graph


@pytest.mark.parametrize(
    ('change', 'problem'),
    [
        (lambda graph: graph['nodes'][2].update(inputs=[[2, 0, 0], [1, 0, 0]]), 'node 2 comes before its input'),
        (lambda graph: graph['nodes'][2].update(inputs=[[0, 0, 0], [9, 0, 0]]), 'node 2 comes before its input'),
        (lambda graph: graph['nodes'][2].update(inputs=[[-1, 0, 0]]), 'nodes.2.inputs.0.0: -1 is less than'),
        (lambda graph: graph['nodes'][2].update(inputs=[[0]]), 'nodes.2.inputs.0: [0] is too short'),
        (lambda graph: graph['nodes'][1].update(inputs=[[0, 0, 0]]), 'node 1 is a variable with an input'),
        (lambda graph: graph['nodes'][1].update(name='data'), 'two nodes of the same name'),
        (lambda graph: graph['nodes'][2].update(attrs={'axis': 1}), 'nodes.2.attrs.axis: 1 is not of type'),
        (lambda graph: graph['nodes'][2].update(subgraphs=[{}]), 'is a required property'),
        (lambda graph: graph.update(heads=[[3, 0, 0]]), 'an argument or an output that is no node'),
        (lambda graph: graph.update(heads=[]), 'heads: [] is too short'),
        (lambda graph: graph.update(arg_nodes=[3]), 'an argument or an output that is no node'),
        (lambda graph: graph.update(nodes=[]), 'nodes: [] is too short'),
    ],
    ids=range(12),
)
def test_refused(graph, tmp_path, change, problem):
    change(graph)
    with pytest.raises(UserError) as error:
        read(graph, tmp_path)
    assert str(error.value).startswith('--load it: not a symbol (')
    assert str(error.value).endswith('); make it again')
    assert problem in str(error.value)
