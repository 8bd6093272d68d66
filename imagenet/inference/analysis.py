"""What follows from the results of all validation examples: accuracy by class, confusions, calibration, mistakes."""

from collections import namedtuple
from dataclasses import dataclass

import numpy as np

from imagenet.training.metrics import TOP_K

# Guo et al. (arXiv:1706.04599) use 15 bins.
NUM_BINS = 15

# `count` examples of class `label` were taken for class `said`.
Confusion = namedtuple('Confusion', 'label said count')


@dataclass(frozen=True)
class ClassTable:
    """Counts by class: int64 arrays `(num_classes,)`.

    Attributes:
        images: examples of the class.
        correct: those that the network classifies correctly.
        correct_top5: those whose class is among the five likeliest.
        said: examples of any class that the network takes for this one.
    """

    images: np.ndarray
    correct: np.ndarray
    correct_top5: np.ndarray
    said: np.ndarray

    @property
    def top1(self):
        """The accuracy of each class, float64; NaN for a class without examples."""
        return _share(self.correct, self.images)

    @property
    def top5(self):
        return _share(self.correct_top5, self.images)

    @property
    def precision(self):
        """The share of correct answers among those that name the class; NaN if there are none."""
        return _share(self.correct, self.said)


def _share(part, total):
    return np.divide(part, total, out=np.full(len(total), np.nan), where=total > 0)


def count_by_class(results, num_classes):
    """Return the `ClassTable` of `ExampleResults`."""

    def count(classes):
        return np.bincount(classes, minlength=num_classes)

    in_top5 = results.ranks <= TOP_K
    labels = results.labels
    return ClassTable(count(labels), count(labels[results.is_right]), count(labels[in_top5]), count(results.said))


def count_confusions(results):
    """Return the cells of the confusion matrix that are not 0, the diagonal included, by label and answer."""
    pairs, counts = np.unique(np.column_stack([results.labels, results.said]), axis=0, return_counts=True)
    return [Confusion(label, said, count) for (label, said), count in zip(pairs.tolist(), counts.tolist())]


def most_confused(confusions):
    """Return the `Confusion`s of different classes, the most frequent first."""
    mistakes = (cell for cell in confusions if cell.label != cell.said)
    return sorted(mistakes, key=lambda cell: -cell.count)


def most_confident_mistakes(results, most):
    """Return the places in `results` of the wrong answers with the highest probabilities, the highest first."""
    wrong = np.flatnonzero(~results.is_right)
    return wrong[np.argsort(-results.probabilities[wrong], kind='stable')][:most]


@dataclass(frozen=True)
class Reliability:
    """Whether answers of probability p are correct with frequency p: section 2 of Guo et al. (arXiv:1706.04599).

    Bin m of M holds the examples whose answers have probabilities in ((m - 1) / M, m / M].

    Attributes:
        counts: examples in each bin, int64 `(M,)`.
        probabilities: their mean probability, float64 `(M,)`; NaN in an empty bin.
        accuracies: the share of correct answers, float64 `(M,)`; NaN in an empty bin.
    """

    counts: np.ndarray
    probabilities: np.ndarray
    accuracies: np.ndarray

    @property
    def expected_calibration_error(self):
        """The mean difference between accuracy and probability, weighted by the examples of the bins; equation 3."""
        differences = np.abs(self.accuracies - self.probabilities)
        filled = self.counts > 0
        return float((differences[filled] * self.counts[filled]).sum() / self.counts.sum())


def measure_reliability(results, num_bins=NUM_BINS):
    """Return the `Reliability` of `ExampleResults`."""
    bins = np.clip(np.ceil(results.probabilities * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    probabilities = np.bincount(bins, weights=results.probabilities, minlength=num_bins)
    correct = np.bincount(bins, weights=results.is_right, minlength=num_bins)
    return Reliability(counts, _share(probabilities, counts), _share(correct, counts))
