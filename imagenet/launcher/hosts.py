"""The hosts on which workers run: "host1:8,host2:8", host files, and ssh."""

import fcntl
import re
import shlex
import socket
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from imagenet.common.errors import USER_ERROR_EXIT_CODE, UserError

MOST_WORKERS = 10_000
SSH_FAILED = 255
CONNECT_SECONDS = 10
# See netdevice(7): a struct ifreq begins with the interface's name, and the system fills in its address.
SIOCGIFADDR = 0x8915
IFREQ_BYTES, ADDRESS_BYTES = 40, slice(20, 24)
DISCARD_PORT = 9


class Host:
    """A machine and the number of workers that may run there."""

    def __init__(self, name, slots):
        self.name = name
        self.slots = slots

    def is_local(self):
        """Return whether this host is the local machine.

        Raises:
            UserError: the name cannot be resolved.
        """
        try:
            address = socket.getaddrinfo(self.name, None, type=socket.SOCK_DGRAM)[0]
        except OSError as error:
            raise UserError(f'-H {self.name}: this host name cannot be resolved ({error.strerror})') from None
        with socket.socket(address[0], socket.SOCK_DGRAM) as probe:
            try:
                # Only an address of this machine can be bound.
                probe.bind((address[4][0], 0))
            except OSError:
                return False
        return True

    def interface(self):
        """Return the local interface that reaches this host over IPv4; None if there is none or the host is local."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                # Nothing is sent: connecting a UDP socket only chooses the route.
                probe.connect((self.name, DISCARD_PORT))
            except OSError:
                return None
            ours, theirs = (socket.inet_aton(address) for address, _ in (probe.getsockname(), probe.getpeername()))
            if ours == theirs:
                return None
            return next((name for _, name in socket.if_nameindex() if _address_of(name, probe) == ours), None)


def check_loopback():
    """Raise `UserError` if the loopback interface, which connects the workers of a machine, is missing or down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(('127.0.0.1', DISCARD_PORT))
        except OSError as error:
            raise UserError(
                f'the loopback interface cannot be used ({error.strerror}), and several workers need it: '
                'ip link set lo up'
            ) from None


def _address_of(interface, probe):
    """Return the IPv4 address of an interface as four bytes, or None if it has none; `probe` can be any socket."""
    try:
        return fcntl.ioctl(probe, SIOCGIFADDR, struct.pack(f'{IFREQ_BYTES}s', interface.encode()))[ADDRESS_BYTES]
    except OSError:
        return None


def parse_hosts(text):
    """Return the `Host`s in text such as 'host1:8,host2'; a host without a number has one slot.

    Raises:
        UserError: the text is not such a list.
    """
    return [_parse_host(part, r'([^:\s]+)(?::(\d+))?', f'-H {text}', 'host1:8,host2:8') for part in text.split(',')]


def read_hostfile(path):
    """Return the `Host`s in a file with lines such as "host1 slots=8" or "host1:8"; text after # is a comment.

    Raises:
        UserError: the file cannot be read, names no host, or has a line of another form.
    """
    try:
        lines = [line.split('#')[0].strip() for line in Path(path).read_text(encoding='utf-8').splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'--hostfile {path}: cannot read this file ({error})') from None
    pattern = r'([^:\s]+)(?:(?::|\s+slots\s*=\s*)(\d+))?'
    hosts = [
        _parse_host(line, pattern, f'--hostfile {path}', 'lines such as "host1 slots=8"') for line in lines if line
    ]
    if not hosts:
        raise UserError(f'--hostfile {path}: contains no hosts; add lines such as "host1 slots=8"')
    return hosts


def _parse_host(text, pattern, option, needed):
    match = re.fullmatch(pattern, text.strip())
    if not match or match.group(2) == '0' or not _is_host_name(match.group(1)):
        raise UserError(f'{option}: "{text}" is not a host with a number of workers; use {needed}')
    return Host(match.group(1), int(match.group(2) or 1))


def _is_host_name(text):
    """Return whether the system can be asked for this name: it has no empty or very long part, and is valid text."""
    try:
        text.encode('idna')
    except UnicodeError:
        return False
    return True


def used_hosts(hosts, count):
    """Return (host, workers) for each host that `count` workers need; they fill one host after the other.

    Raises:
        UserError: the hosts have too few slots.
    """
    used, left = [], count
    for host in hosts:
        if left:
            used.append((host, min(left, host.slots)))
            left -= used[-1][1]
    if left:
        raise UserError(f'-n {count}: the hosts have {count - left} slots; give more hosts, or more slots to each')
    return used


class Ssh:
    """Runs commands on other hosts over ssh, as `horovodrun` will.

    Args:
        port: port of the ssh servers, or None for ssh's default.
        identity_file: private key, or None for ssh's default.
    """

    def __init__(self, port=None, identity_file=None):
        options = {'BatchMode': 'yes', 'StrictHostKeyChecking': 'no', 'ConnectTimeout': CONNECT_SECONDS}
        self._command = ['ssh', *(f'-o{name}={value}' for name, value in options.items())]
        self._command += ['-p', str(port)] if port is not None else []
        self._command += ['-i', str(identity_file)] if identity_file is not None else []

    def run(self, host, command):
        """Run a shell command on a host, and return the completed process with its output as text."""
        line = [*self._command, host, command]
        return subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def check_hosts(hosts, ssh, folder, command, environment):
    """Run the pre-flight check on every remote host.

    Args:
        hosts: list of (host, workers).
        folder: the current folder, which must also exist on every host.
        command: the command that checks, as a list; it must be at the same path on all hosts.
        environment: dict of environment variables for the command.

    Raises:
        UserError: a host cannot be reached, or its check fails; the message names the host.
    """
    others = [(host, workers) for host, workers in hosts if not host.is_local()]

    def check(place):
        host, workers = place
        variables = {**environment, 'HOROVOD_LOCAL_SIZE': workers}
        settings = [f'{name}={shlex.quote(str(value))}' for name, value in variables.items()]
        line = f'cd {shlex.quote(str(folder))} && env {" ".join(settings)} {" ".join(map(shlex.quote, command))}'
        return host, ssh.run(host.name, line)

    with ThreadPoolExecutor(max(1, len(others))) as pool:
        for host, result in pool.map(check, others):
            _check_answer(host, result, command)


def _check_answer(host, result, command):
    last = (result.stderr.strip().splitlines() or ['no output'])[-1]
    if result.returncode == SSH_FAILED:
        raise UserError(f'-H {host.name}: ssh cannot connect ({last}); try: ssh {host.name} true')
    if result.returncode == USER_ERROR_EXIT_CODE and last.startswith('error: '):
        raise UserError(f'{host.name}: {last[len("error: ") :]}')
    if result.returncode:
        raise UserError(
            f'{host.name}: cannot run {shlex.join(command[:2])} ({last}); '
            'this package, its environment and the data must be at the same paths on all hosts'
        )
