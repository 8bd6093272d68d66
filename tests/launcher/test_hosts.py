"""hosts.py: lists of hosts, and how workers are assigned to them."""

import socket

import pytest

from imagenet.common.errors import UserError
from imagenet.launcher.hosts import parse_hosts, read_hostfile, used_hosts


def described(hosts):
    return [(host.name, host.slots) for host in hosts]


def test_hosts_of_an_option():
    assert described(parse_hosts('a:8,b.example.org:4,c')) == [('a', 8), ('b.example.org', 4), ('c', 1)]


@pytest.mark.parametrize('text', ['', 'a:', 'a:0', 'a:8,', 'a b', 'a:8:2', 'a:-1', 'a..b', 'a' * 64, '\udcff'])
def test_no_hosts(text):
    with pytest.raises(UserError, match='host1:8'):
        parse_hosts(text)


def test_hosts_of_a_file(tmp_path):
    path = tmp_path / 'hosts'
    path.write_text('# ours\na slots=8\n\nb:4  # new\nc\n')
    assert described(read_hostfile(path)) == [('a', 8), ('b', 4), ('c', 1)]
    for text in ('', '# nothing\n', 'a slots=many\n', 'a slots=0\n'):
        path.write_text(text)
        with pytest.raises(UserError, match='--hostfile'):
            read_hostfile(path)
    with pytest.raises(UserError, match='cannot read'):
        read_hostfile(tmp_path / 'nothing')


def test_workers_fill_hosts_in_order():
    hosts = parse_hosts('a:2,b:2,c:2')
    assert [(host.name, workers) for host, workers in used_hosts(hosts, 3)] == [('a', 2), ('b', 1)]
    with pytest.raises(UserError, match='-n 7: the hosts have 6 slots'):
        used_hosts(hosts, 7)


def test_local_hosts():
    assert all(host.is_local() for host in parse_hosts('localhost,127.0.0.1'))
    assert not parse_hosts('192.0.2.1')[0].is_local()
    with pytest.raises(UserError, match='this host name cannot be resolved'):
        parse_hosts('misspelt.invalid')[0].is_local()


def test_interface_to_a_host():
    """Only other machines are reached through an interface; finding it sends no packet."""
    assert all(host.interface() is None for host in parse_hosts('localhost,127.0.0.1,misspelt.invalid'))
    names = [name for _, name in socket.if_nameindex()]
    assert parse_hosts('192.0.2.77')[0].interface() in (*names, None)
