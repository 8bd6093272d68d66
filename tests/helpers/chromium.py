"""Chromium without a window, which tests open pages with.

It is driven with the Chrome DevTools Protocol (https://chromedevtools.github.io/devtools-protocol/) over two pipes, so
that nothing else needs to be installed.
"""

import base64
import itertools
import json
import shutil
import subprocess
from contextlib import contextmanager

from helpers.patience import wait_until

PROGRAM = 'chromium'
# Chromium has its commands on file descriptor 3 and writes its answers on 4.
PIPES = 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1'
# Root needs the first option, and containers with little shared memory the second one.
OPTIONS = ('--no-sandbox', '--disable-dev-shm-usage', '--headless', '--remote-debugging-pipe', '--hide-scrollbars')


def is_installed():
    return shutil.which(PROGRAM) is not None


@contextmanager
def running_chromium(folder):
    """Run Chromium within the block, with its files in a folder; yield a `Tab`."""
    command = ['sh', '-c', PIPES, 'sh', PROGRAM, *OPTIONS, f'--user-data-dir={folder}']
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Tab(_Connection(process))
        finally:
            process.kill()


class _Connection:
    """Calls methods of the protocol. Messages end with a zero byte."""

    def __init__(self, process):
        self._process = process
        self._ids = itertools.count(1)
        self.events = []

    def call(self, method, session=None, **parameters):
        """Return the result of a method. The events before it are added to `events`."""
        content = {'id': next(self._ids), 'method': method, 'params': parameters}
        if session is not None:
            content['sessionId'] = session
        self._process.stdin.write(json.dumps(content).encode() + b'\0')
        self._process.stdin.flush()
        while True:
            answer = self._read()
            if answer.get('id') == content['id']:
                assert 'error' not in answer, f'{method}: {answer}'
                return answer['result']
            self.events.append(answer)

    def _read(self):
        message = bytearray()
        while not message.endswith(b'\0'):
            byte = self._process.stdout.read(1)
            assert byte, f'Chromium ended, with exit code {self._process.wait()}'
            message += byte
        return json.loads(message[:-1])


class Tab:
    """A tab of the browser."""

    def __init__(self, connection):
        self._connection = connection
        target = connection.call('Target.createTarget', url='about:blank')['targetId']
        self._session = connection.call('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self._call(f'{domain}.enable')

    def _call(self, method, **parameters):
        return self._connection.call(method, self._session, **parameters)

    def open(self, path, width, color_scheme='light'):
        """Open a file in a window of this width in pixels, and wait until the page has made its mark 'drawn'."""
        self._connection.events.clear()
        self._call('Emulation.setDeviceMetricsOverride', width=width, height=1000, deviceScaleFactor=1, mobile=False)
        scheme = {'name': 'prefers-color-scheme', 'value': color_scheme}
        self._call('Emulation.setEmulatedMedia', features=[scheme])
        self._call('Page.navigate', url=path.absolute().as_uri())
        wait_until(lambda: self.seconds_until_drawn() is not None)

    def seconds_until_drawn(self):
        """Return the time from the start of the navigation to the mark; None if it is not made yet."""
        marks = self.evaluate("performance.getEntriesByName('drawn').map(mark => mark.startTime)")
        return marks[0] / 1000 if marks else None

    def evaluate(self, expression):
        """Return the value of a JavaScript expression."""
        result = self._call('Runtime.evaluate', expression=expression, returnByValue=True)
        assert 'exceptionDetails' not in result, result
        return result['result'].get('value')

    def texts(self, selector):
        """Return the texts of the elements that a CSS selector finds."""
        return self.evaluate(
            f'Array.from(document.querySelectorAll({json.dumps(selector)}), found => found.textContent)'
        )

    def box(self, selector):
        """Return the x, y, width and height of an element in the window, after scrolling to it."""
        return self.evaluate(f"""(() => {{
            const found = document.querySelector({json.dumps(selector)});
            found.scrollIntoView({{block: 'center'}});
            const {{x, y, width, height}} = found.getBoundingClientRect();
            return [x, y, width, height];
        }})()""")

    def move_mouse(self, x, y):
        self._call('Input.dispatchMouseEvent', type='mouseMoved', x=x, y=y)

    def complaints(self):
        """Return everything on the console since the page was opened: errors, warnings, exceptions."""
        methods = ('Runtime.consoleAPICalled', 'Runtime.exceptionThrown', 'Log.entryAdded')
        return [event['params'] for event in self._connection.events if event['method'] in methods]

    def requests(self):
        """Return the addresses that were asked for since the page was opened."""
        events = self._connection.events
        return [event['params']['request']['url'] for event in events if event['method'] == 'Network.requestWillBeSent']

    def screenshot(self, path):
        """Write a picture of the whole page to a PNG file."""
        picture = self._call('Page.captureScreenshot', captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture['data']))
