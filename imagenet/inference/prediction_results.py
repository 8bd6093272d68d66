"""Results of `--mode pred`: counted, and with `--output` written as they come.

Until the last one is written, they are in a folder next to the output, with the progress in `state.json`. A run that is
killed at any time can resume from there; the output is that of an uninterrupted run.
"""

import csv
import io
import json
import os
import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Optional

from imagenet.common.errors import StoppedError, UserError
from imagenet.common.files import PARTIAL_SUFFIX, keep_work_on_error, open_at, sole_use_of, write_atomically
from imagenet.common.options import as_text
from imagenet.reporting.json_files import read_json
from imagenet.training.stop_signals import StopRequest

SCHEMA = Path(__file__).resolve().with_name('prediction_schema.json')
STATE = 'state.json'
# A killed run loses the work of about this time.
SECONDS_BETWEEN_SAVES = 1


class CsvTable:
    """The parts of a CSV file: a header, and a row for each image.

    Args:
        num_classes: the number of classes in each result that is not an error.
    """

    end = ''

    def __init__(self, num_classes):
        ranks = range(1, num_classes + 1)
        columns = [f'{name}_{rank}' for rank in ranks for name in ('class', 'probability')]
        self.start = self._line(['file', 'error', *columns])

    def entry(self, result, _number):
        cells = [cell for found in result['classes'] for cell in (found['name'], found['probability'])]
        return self._line([result['file'], result['error'] or '', *cells])

    def _line(self, cells):
        text = io.StringIO()
        csv.writer(text).writerow(cells)
        return text.getvalue()


class JsonArray:
    """The parts of a JSON file: an array with an object for each image."""

    start = '['
    end = f'\n]{os.linesep}'

    def __init__(self, _num_classes):
        pass

    def entry(self, result, number):
        text = json.dumps([result], indent=2)[1:-2]
        return f',{text}' if number else text


FORMATS = {'.csv': CsvTable, '.json': JsonArray}


@dataclass(frozen=True)
class Tally:
    """The number of results, and what is needed to report that no image could be read."""

    done: int = 0
    readable: int = 0
    first_error: Optional[str] = None

    def plus(self, results):
        errors = [result['error'] for result in results if result['error']]
        return Tally(
            self.done + len(results),
            self.readable + len(results) - len(errors),
            self.first_error or next(iter(errors), None),
        )

    def check(self):
        """Raise `UserError` if no image could be read."""
        if not self.readable:
            raise UserError(self.first_error)


class CountedResults:
    """Results that are only counted."""

    def __init__(self):
        self.tally = Tally()

    @property
    def done(self):
        return self.tally.done

    def add(self, results):
        self.tally = self.tally.plus(results)


@contextmanager
def counted_results():
    """Provide `CountedResults`; at the end of the block, raise `UserError` if no image could be read."""
    results = CountedResults()
    yield results
    results.tally.check()


@dataclass(frozen=True)
class Origin:
    """Everything that determines the results.

    Attributes:
        options: values by name, as JSON has them.
        checksums: checksums of files and lists, by what they are.
    """

    options: dict
    checksums: dict

    def differences(self, other):
        """Return in words what another origin has differently."""
        options = [
            f'{name} was {as_text(self.options.get(name))}, is {as_text(other.options.get(name))}'
            for name in {**self.options, **other.options}
            if self.options.get(name) != other.options.get(name)
        ]
        checksums = [f'another {name}' for name, value in other.checksums.items() if self.checksums.get(name) != value]
        return options + checksums


@dataclass(frozen=True)
class PredictionState:
    """The progress stored in `state.json`. Bytes of the results beyond `size` belong to an unfinished batch."""

    origin: Origin
    tally: Tally
    size: int

    def save(self, work):
        content = json.dumps({**asdict(self.origin), **asdict(self.tally), 'size': self.size})
        write_atomically(work / STATE, lambda path: path.write_text(content, encoding='utf-8'))


class SavedResults:
    """Results in a file that grows. The progress is saved every second, always after a whole batch.

    Then a resumed run computes the same batches as an uninterrupted one, and the same last digits.

    Args:
        file: where the results are appended, open for writing bytes.
        form: the parts of the file, one of `FORMATS`.
        work: the folder of the state.
        state: the `PredictionState` at the start.
        stop: a `StopRequest`.
    """

    def __init__(self, file, form, work, state, stop):
        self.state = state
        self._file, self._form, self._work, self._stop = file, form, work, stop
        self._save_time = time.monotonic()

    @property
    def done(self):
        return self.state.tally.done

    def add(self, results):
        """Write the results of a batch.

        Raises:
            StoppedError: a signal asks for the end of the run.
        """
        entries = [self._form.entry(result, number) for number, result in enumerate(results, self.done)]
        size = self._write(''.join(entries) if self.done else self._form.start + ''.join(entries))
        # In one step, so that Ctrl-C finds a consistent state.
        self.state = replace(self.state, tally=self.state.tally.plus(results), size=self.state.size + size)
        if self._stop.name is not None:
            raise StoppedError(f'ended by {self._stop.name} after {self.done} images')
        if time.monotonic() - self._save_time > SECONDS_BETWEEN_SAVES:
            self.save()

    def save(self):
        """Write the state, after everything that it counts."""
        os.fsync(self._file.fileno())
        self.state.save(self._work)
        self._save_time = time.monotonic()

    def complete(self):
        """Write the end of the file."""
        self._write(self._form.end)
        os.fsync(self._file.fileno())

    def _write(self, text):
        """Append text, and return its size in bytes. Nothing is buffered that could not be written when it closes."""
        # File names may not be valid text.
        encoded = text.encode('utf-8', errors='backslashreplace')
        remaining = memoryview(encoded)
        while remaining:
            remaining = remaining[os.write(self._file.fileno(), remaining) :]
        return len(encoded)


@contextmanager
def saved_results(output, num_images, num_classes, origin):
    """Provide `SavedResults`, those of a run that was stopped included; at the end of the block, write the output.

    Args:
        output: the path of the output, whose suffix is one of `FORMATS`.
        num_images: the number of all images.
        num_classes: the number of classes in each result.
        origin: the `Origin` of the results.

    Raises:
        UserError: another run writes the same output, the stopped one had another origin, no image could be read, or
            the output cannot be written.
    """
    work = _make_work_folder(output)
    with sole_use_of(work / 'lock'):
        path = work / f'results{output.suffix}'
        state = _read_state(work, path, origin) or _begin(work, origin)
        stop = StopRequest()
        with open_at(path, state.size, work) as file, stop.listening():
            if state.tally.done:
                print(f'resuming: {state.tally.done} of {num_images} images are done', file=sys.stderr, flush=True)
            results = SavedResults(file, FORMATS[output.suffix](num_classes), work, state, stop)
            with _kept_if_begun(results, work):
                yield results
                results.complete()
        _publish(path, results.state.tally, work, output)


def _make_work_folder(output):
    """Return the folder for the results of an unfinished run, which may exist.

    Raises:
        UserError: the output cannot be written.
    """
    work = output.with_name(f'{output.name}{PARTIAL_SUFFIX}')
    if output.exists() and not output.is_file():
        # Renaming would fail at the end.
        raise UserError(f'{output}: cannot write this file (it is a folder or a device)')
    try:
        work.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f'--output {output}: cannot make the folder {work} ({error.strerror})') from None
    return work


def _read_state(work, results, origin):
    """Return the `PredictionState` of a stopped run, or None if there is nothing to resume.

    Args:
        results: the path of the results.
        origin: what their `Origin` must be.

    Raises:
        UserError: the state is damaged, or the results of that run have another origin.
    """
    path = work / STATE
    if not (path.exists() and results.exists()):
        return None
    content = read_json(path, SCHEMA, 'the state of a run', advice=f'remove {work} to start over')
    found = Origin(content['options'], content['checksums'])
    different = found.differences(origin)
    if different:
        raise UserError(
            f'{work}: contains the work of another run ({"; ".join(different)}); use the same options to resume it, '
            'or remove this folder'
        )
    tally = Tally(content['done'], content['readable'], content['first_error'])
    return PredictionState(origin, tally, content['size'])


def _begin(work, origin):
    """Return the `PredictionState` of a run from the start."""
    # A run may have been killed after it gave the results their final name.
    (work / STATE).unlink(missing_ok=True)
    return PredictionState(origin, Tally(), 0)


@contextmanager
def _kept_if_begun(results, work):
    """After an error in the block, keep the results, unless there are none."""
    try:
        yield
    except BaseException:
        if not results.done:
            shutil.rmtree(work, ignore_errors=True)
            raise
        with keep_work_on_error(work):
            results.save()
            raise


def _publish(results, tally, work, output):
    """Give the results their final name, and remove the folder.

    Raises:
        UserError: no image could be read, or the output cannot be replaced.
    """
    if tally.readable:
        with keep_work_on_error(work):
            results.replace(output)
    shutil.rmtree(work, ignore_errors=True)
    tally.check()
