"""The result of each validation example: computed on the devices, gathered from all processes, written as a table."""

import csv
from dataclasses import dataclass
from functools import partial

import numpy as np

from imagenet.common.errors import UserError
from imagenet.common.files import has_writable_folder, write_atomically
from imagenet.runtime import distributed
from imagenet.runtime.compat import as_numpy, mx, view_of
from imagenet.training.metrics import TOP_K, ranks_of_labels

# Of a probability. The last bits of float32 depend on how images are grouped into batches; these rarely do.
DIGITS = 4
COLUMNS = ('record', 'file', 'label', 'label_name', 'class', 'class_name', 'probability', 'rank')


def check_table_file(path, formats, purpose):
    """Raise `UserError` if this file could not be written, or its name does not end with one of the formats."""
    if path.suffix not in formats:
        raise UserError(f'--output {path}: must be the name of a {" or ".join(formats)} file for {purpose}')
    if path.is_dir() or not has_writable_folder(path):
        raise UserError(f'--output {path}: is a folder, or its folder is missing or not writable')


@dataclass(frozen=True)
class ExampleResults:
    """What a network says of validation examples: arrays `(examples,)`, in the order of the records.

    Attributes:
        numbers: the records' numbers, int64.
        labels: the right classes, int64.
        said: the likeliest classes, int64.
        probabilities: those of the likeliest classes, float64, rounded to `DIGITS` decimal places.
        ranks: the place of the right class among all classes, the likeliest first, from 1; int64.
    """

    numbers: np.ndarray
    labels: np.ndarray
    said: np.ndarray
    probabilities: np.ndarray
    ranks: np.ndarray

    def __len__(self):
        return len(self.numbers)

    @property
    def is_right(self):
        return self.said == self.labels


def make_example_rows(num_classes):
    """Return a block that computes a row for each example of a batch.

    Its inputs are logits `(N, num_classes)` and class indices `(N,)`. Its output is float32 `(N, 4)`: the label, the
    likeliest class, its probability, and the rank of the right class. Of equal logits, it prefers the same as
    `make_batch_statistics`, so that both count the same hits, as `rows_on_host` does for `score_on_host`.
    """
    top_k = min(TOP_K, num_classes)

    def compute(F, logits, labels):
        likeliest = F.topk(logits, k=top_k, axis=1)
        said = F.slice_axis(likeliest, axis=1, begin=0, end=1).reshape((-1,))
        is_hit = F.broadcast_equal(likeliest, labels.reshape((-1, 1)))
        shifted = F.broadcast_minus(logits, F.max(logits, axis=1, keepdims=True))
        probability = 1 / F.exp(shifted).sum(axis=1)
        own = F.pick(logits, labels, axis=1, keepdims=True)
        place_among_all = 1 + F.broadcast_greater(logits, own).sum(axis=1)
        rank = F.where(is_hit.sum(axis=1), 1 + F.argmax(is_hit, axis=1), F.maximum(place_among_all, top_k + 1))
        return F.stack(labels, said, probability, rank, axis=1)

    return mx.gluon.nn.HybridLambda(compute)


def rows_on_host(logits, labels):
    """Return the rows of `make_example_rows`, computed by NumPy. Logits are MXNet's or NumPy's, labels MXNet's."""
    logits, labels = as_numpy(logits), view_of(labels).astype(np.int64)
    probabilities = 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)
    return np.stack([labels, logits.argmax(axis=1), probabilities, ranks_of_labels(logits, labels)], axis=1)


class ExampleRows:
    """Collects the rows of the examples that this process validates, in their order.

    Args:
        on_host: whether NumPy computes them; see `make_scorer`.
    """

    def __init__(self, num_classes, on_host):
        block = make_example_rows(num_classes)
        block.hybridize()
        self._start = partial(partial, rows_on_host) if on_host else lambda *arrays: block(*arrays).asnumpy
        self._pending, self._fetched = [], [np.empty((0, 4), dtype=np.float32)]

    def push(self, logits, labels):
        """Start to compute the rows of a batch."""
        self._pending.append(self._start(logits, labels))

    def fetch(self):
        """Wait for the rows of all batches that were pushed."""
        self._fetched += [wait() for wait in self._pending]
        self._pending = []

    def gather(self, first_example):
        """Return the `ExampleResults` of all processes, on all of them.

        Args:
            first_example: the number of this process's first example.
        """
        rows = np.concatenate(self._fetched).astype(np.float64)
        numbers = np.arange(first_example, first_example + len(rows), dtype=np.float64)
        gathered = distributed.gather_rows(np.column_stack([numbers, rows]))
        # With --dali-separ-val, every process has every example.
        _, chosen = np.unique(gathered[:, 0], return_index=True)
        numbers, labels, said, probabilities, ranks = gathered[chosen].T
        numbers, labels, said, ranks = (values.astype(np.int64) for values in (numbers, labels, said, ranks))
        return ExampleResults(numbers, labels, said, probabilities.round(DIGITS), ranks)


def write_results(path, results, names, files=None):
    """Write `ExampleResults` as a CSV file with a row for each record, whose number counts from 0.

    Args:
        names: the names of the classes.
        files: the names of all records' image files, or None.

    Raises:
        UserError: the file cannot be written.
    """
    columns = results.numbers, results.labels, results.said, results.probabilities, results.ranks
    rows = (
        (number, files[number] if files else '', label, names[label], said, names[said], f'{share:.{DIGITS}f}', rank)
        for number, label, said, share, rank in zip(*(column.tolist() for column in columns))
    )
    write_csv(path, COLUMNS, rows)


def write_csv(path, columns, rows):
    """Write a CSV file atomically; raise `UserError` if it cannot be written."""

    def write(temporary):
        with temporary.open('w', newline='', encoding='utf-8') as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(rows)

    write_atomically(path, write)
