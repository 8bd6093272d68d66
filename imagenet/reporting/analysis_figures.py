"""The pictures of an analysis: confusion matrix, reliability diagram, accuracy over training images.

They take plain arrays, and are readable for ten and for a thousand classes.
"""

import numpy as np

from imagenet.reporting.figures import as_label, import_pyplot

# With more classes, there is no room for their names and for numbers in the cells of a matrix.
MOST_CLASSES_NAMED = 30
LONGEST_NAME = 24
LINES_PER_INCH = 4.5
LIST_INCHES = 4.2
WORST_LISTED = 25
NUM_GROUPS = 10


def draw_confusion(confusions, listed, images, names):
    """Return a figure of the confusion matrix, next to a list of the most frequent mistakes.

    Args:
        confusions: tuples (label, said, count), one for each cell that is not 0.
        listed: those of them to list.
        images: examples by class, int `(num_classes,)`.
        names: short names of the classes.
    """
    is_small = len(names) <= MOST_CLASSES_NAMED
    side = max(5, 0.42 * len(names) + 2) if is_small else 10
    figure, axes, beside = _figure_with_list(side, side)
    (_draw_cells if is_small else _draw_dots)(axes, confusions, images, names)
    axes.set(xlabel='what the network says', ylabel='what is right')
    lines = [
        f'{count:5d}  {as_label(names[label], LONGEST_NAME)} → {as_label(names[said], LONGEST_NAME)}'
        for label, said, count in listed[: int(LINES_PER_INCH * side)]
    ]
    _list(beside, 'most frequent mistakes: right → said' if lines else 'no mistakes', lines)
    # The layout of square axes needs a second pass.
    figure.draw_without_rendering()
    return figure


def _figure_with_list(width, height):
    """Return a figure, its axes with a size in inches, and axes for a list on the right of them."""
    settings = {'figsize': (width + LIST_INCHES, height), 'width_ratios': (width, LIST_INCHES)}
    figure, axes = import_pyplot().subplots(1, 2, layout='constrained', **settings)
    return figure, *axes


def _list(axes, title, lines):
    axes.set_axis_off()
    axes.set_title(title, fontsize=10, loc='left')
    text = '\n'.join(lines)
    axes.text(0, 1, text, va='top', fontsize=8, family='monospace', linespacing=1.5, transform=axes.transAxes)


def _draw_cells(axes, confusions, images, names):
    """Draw a cell for each pair of classes: its count, and its share of the class as a color."""
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    for label, said, count in confusions:
        counts[label, said] = count
    shares = counts / np.maximum(1, images)[:, None]
    # The square root shows rare mistakes, too.
    axes.imshow(np.sqrt(shares), cmap='Blues', vmin=0, vmax=1)
    for label, said, count in confusions:
        color = 'white' if shares[label, said] > 0.4 else 'black'
        axes.text(said, label, count, ha='center', va='center', color=color, fontsize=8)
    texts = [as_label(name, LONGEST_NAME) for name in names]
    axes.set_xticks(range(len(names)), texts, rotation=90)
    axes.set_yticks(range(len(names)), texts)


def _draw_dots(axes, confusions, images, names):
    """Draw a dot for each kind of mistake, the larger and darker the more frequent it is in its class."""
    mistakes = np.array([cell for cell in confusions if cell[0] != cell[1]], dtype=np.int64).reshape(-1, 3)
    labels, said, counts = mistakes[np.argsort(mistakes[:, 2], kind='stable')].T
    shares = counts / images[labels]
    dots = axes.scatter(said, labels, s=2 + 120 * shares, c=shares, cmap='viridis_r', vmin=0, linewidths=0)
    axes.plot([0, len(names) - 1], [0, len(names) - 1], color='black', alpha=0.2, linewidth=0.5)
    edges = -0.01 * len(names), 1.01 * len(names) - 1
    axes.set(xlim=edges, ylim=edges[::-1], aspect='equal', title='mistakes, by the numbers of the classes')
    axes.figure.colorbar(dots, ax=axes, location='bottom', shrink=0.6, label='share of the examples of the class')


def draw_reliability(counts, probabilities, accuracies, error):
    """Return a reliability diagram above a histogram; see Guo et al. (arXiv:1706.04599), figure 1.

    Args:
        counts, probabilities, accuracies: of each bin, `(M,)`; NaN where a bin is empty.
        error: the expected calibration error.
    """
    figure, (above, below) = import_pyplot().subplots(
        2, 1, figsize=(6, 7), sharex=True, layout='constrained', height_ratios=(3, 1)
    )
    edges = np.arange(len(counts)) / len(counts)
    bars = {'width': 1 / len(counts), 'align': 'edge', 'edgecolor': 'white'}
    above.bar(edges, np.nan_to_num(accuracies), color='tab:blue', label='accuracy', **bars)
    above.plot([0, 1], [0, 1], '--', color='gray', label='perfect calibration')
    filled = counts > 0
    above.plot(probabilities[filled], accuracies[filled], 'o', color='black', markersize=3, label='mean of a bin')
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel='accuracy', title=f'expected calibration error {error:.4f}')
    above.legend(loc='upper left')
    below.bar(edges, counts, color='tab:gray', **bars)
    below.set(xlabel='probability of the likeliest class', ylabel='examples')
    return figure


def draw_training_images(training_images, top1, names):
    """Return a figure of the accuracy of each class over the number of its training images.

    Args:
        training_images: by class, int `(num_classes,)`.
        top1: accuracy by class, float `(num_classes,)`; NaN for a class without examples.
        names: short names of the classes.
    """
    known = np.flatnonzero(~np.isnan(top1))
    figure, axes, beside = _figure_with_list(8, 6)
    size = 36 if len(names) <= MOST_CLASSES_NAMED else 10
    axes.scatter(training_images[known], top1[known], s=size, alpha=0.6, linewidths=0)
    if len(known) > MOST_CLASSES_NAMED:
        groups = _groups(training_images, known)
        means = [[values[group].mean() for group in groups] for values in (training_images, top1)]
        axes.plot(*means, color='tab:orange', marker='o', label='means of groups of classes')
        axes.legend(loc='lower left')
    axes.set(xlabel='training images of the class', ylabel='top-1 of the class')
    axes.grid(alpha=0.3)
    worst = known[np.argsort(top1[known], kind='stable')][:WORST_LISTED]
    lines = [f'{top1[one]:.3f} {training_images[one]:7d}  {as_label(names[one], LONGEST_NAME)}' for one in worst]
    _list(beside, 'worst classes: top-1, training images', lines)
    return figure


def _groups(training_images, known):
    """Return classes in groups of about equal size, by their training images; equal numbers are in one group."""
    edges = np.unique(np.quantile(training_images[known], np.linspace(0, 1, NUM_GROUPS + 1)[1:-1]))
    numbers = np.digitize(training_images[known], edges)
    return [known[numbers == number] for number in np.unique(numbers)]
