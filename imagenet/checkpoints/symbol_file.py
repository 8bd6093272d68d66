"""Reads MXNet's graphs, `prefix-symbol.json`, and checks what MXNet takes for granted."""

from pathlib import Path

from imagenet.common.errors import UserError
from imagenet.reporting.json_files import read_json

SCHEMA = Path(__file__).resolve().with_name('symbol_schema.json')


def read_symbol(path, subject, advice=None):
    """Return the content of a symbol's file: a graph whose nodes come after their inputs.

    Args:
        subject, advice: start and end of messages, as for `read_json`.

    Raises:
        UserError: the file cannot be read, or is not a symbol.
    """
    graph = read_json(path, SCHEMA, 'a symbol', subject, advice)
    problem = _problem_of(graph)
    if problem:
        raise UserError(f'{subject}: not a symbol ({problem})' + (f'; {advice}' if advice else ''))
    return graph


def _problem_of(graph):
    """Return why MXNet cannot load a graph, or None."""
    nodes = graph['nodes']
    for index, node in enumerate(nodes):
        if any(source >= index for source, *_ in node['inputs']):
            return f'node {index} comes before its input'
        if node['op'] == 'null' and (node['inputs'] or not node['name']):
            return f'node {index} is a variable with an input or without a name'
        problem = next(filter(None, map(_problem_of, node.get('subgraphs', []))), None)
        if problem:
            return f'in node {index}, {problem}'
    named = [node['name'] for node in nodes]
    if len(set(named)) < len(named):
        return 'two nodes of the same name'
    if any(index >= len(nodes) for index in (*graph['arg_nodes'], *(head for head, *_ in graph['heads']))):
        return 'an argument or an output that is no node'
    return None
