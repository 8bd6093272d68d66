"""Losses of training, with smoothed labels and with targets of two classes: cross-entropy and binary cross-entropy."""

import math
from dataclasses import dataclass

from imagenet.common.errors import UserError
from imagenet.common.options import number
from imagenet.runtime.compat import mx


def add_loss_args(parser):
    group = parser.add_argument_group('Loss')
    group.add_argument(
        '--label-smoothing',
        type=number(at_least=0, below=1),
        default=0.1,
        help='weight of the uniform distribution in the labels (default: %(default)s)',
    )
    group.add_argument(
        '--bce-loss',
        action='store_true',
        help='train with the binary cross-entropy of each class, averaged over the classes, instead of the '
        'cross-entropy; the validation loss is the cross-entropy in any case',
    )
    group.add_argument(
        '--bce-target-threshold',
        type=number(at_least=0, below=1),
        help='with --bce-loss: classes whose target is above this have the target 1 and the others 0, after smoothing '
        'and mixing (default: targets are used as they are)',
    )
    return group


@dataclass(frozen=True)
class LossOptions:
    """The options of the same names.

    Raises:
        UserError: they contradict each other.
    """

    label_smoothing: float
    bce_loss: bool
    bce_target_threshold: float
    num_classes: int

    def __post_init__(self):
        if self.bce_target_threshold is not None and not self.bce_loss:
            raise UserError(f'--bce-target-threshold {self.bce_target_threshold:g}: needs --bce-loss')
        # Without a description, the number of classes of --load may be unknown.
        if self.bce_target_threshold is not None and self.num_classes is not None:
            self._check_threshold()

    def _check_threshold(self):
        """Raise `UserError` if the threshold does not separate the class of an image from the others."""
        threshold = self.bce_target_threshold
        own, others = smoothed_targets(self.label_smoothing, self.num_classes)
        # Without smoothing, the others are exactly 0, even if images are mixed.
        if not (others < threshold < own or threshold == others == 0):
            raise UserError(
                f'--bce-target-threshold {threshold:g}: --label-smoothing {self.label_smoothing:g} of '
                f'{self.num_classes} classes gives targets of {others:g} and {own:g}, and it must be between them'
            )


@dataclass(frozen=True)
class Targets:
    """What the images of a batch show: one class each, or two if they are mixed.

    Attributes:
        labels: class indices `(N,)`.
        partner_labels: those of the images that were mixed in, or None.
        shares: float32 `(N,)`, the weights of `labels`; `partner_labels` have the rest.
    """

    labels: object
    partner_labels: object = None
    shares: object = None

    def likeliest(self):
        """Return the class indices that count as correct: those with the larger share."""
        if self.partner_labels is None:
            return self.labels
        return mx.nd.where(self.shares >= 0.5, self.labels, self.partner_labels)


def smoothed_targets(smoothing, num_classes):
    """Return the targets of an image's own class and of each other one.

    Szegedy et al. (arXiv:1512.00567), section 7.
    """
    others = smoothing / num_classes
    return 1 - smoothing + others, others


def make_loss(options):
    """Return the loss of `LossOptions`, a function of logits `(N, num_classes)` and `Targets` that returns `(N,)`."""
    if options.bce_loss:
        return BinaryCrossEntropy(options.num_classes, options.label_smoothing, options.bce_target_threshold)
    return CrossEntropy(options.label_smoothing)


def make_cross_entropy(smoothing=0.0):
    """Return a block for the cross-entropy with smoothed labels, Szegedy et al. (arXiv:1512.00567), section 7.

    Its inputs are logits `(N, num_classes)` and class indices `(N,)`, its output `(N,)`.
    """

    def loss_per_example(F, logits, labels):
        log_probabilities = F.log_softmax(logits)
        loss = -F.pick(log_probabilities, labels)
        if smoothing:
            uniform_loss = -F.mean(log_probabilities, axis=1)
            loss = (1 - smoothing) * loss + smoothing * uniform_loss
        return loss

    return mx.gluon.nn.HybridLambda(loss_per_example)


class CrossEntropy:
    """The label-smoothed cross-entropy. It is linear in the targets, so that of a mixed image is a mean of two.

    Attributes:
        gradient_scale: what to multiply the loss by before the backward pass, so that float16 holds its gradients.
    """

    gradient_scale = 1.0

    def __init__(self, smoothing):
        self._of_labels = _hybridized(make_cross_entropy(smoothing))

    def __call__(self, logits, targets):
        loss = self._of_labels(logits, targets.labels)
        if targets.partner_labels is None:
            return loss
        partner_loss = self._of_labels(logits, targets.partner_labels)
        return targets.shares * loss + (1 - targets.shares) * partner_loss


class BinaryCrossEntropy:
    """The mean over the classes of their binary cross-entropy; "ResNet strikes back" (arXiv:2110.00476), section 3.

    As in timm, a label's targets are smoothed before images are mixed.

    Args:
        threshold: targets above it become 1, others 0; None: they stay as they are.

    Attributes:
        gradient_scale: see `CrossEntropy`. It undoes the division by the number of classes, as a power of two, which
            rounds nothing.
    """

    def __init__(self, num_classes, smoothing, threshold):
        self.gradient_scale = 2.0 ** math.ceil(math.log2(num_classes))
        on_value, off_value = smoothed_targets(smoothing, num_classes)

        def smoothed(F, labels):
            return F.one_hot(labels, depth=num_classes, on_value=on_value, off_value=off_value)

        def loss_per_example(F, logits, labels, partner_labels=None, shares=None):
            targets = smoothed(F, labels)
            if shares is not None:
                shares = F.expand_dims(shares, axis=1)
                own = F.broadcast_mul(targets, shares)
                targets = own + F.broadcast_mul(smoothed(F, partner_labels), 1 - shares)
            if threshold is not None:
                targets = targets > threshold
            # log(1 + exp(x)) - t * x, without an overflow.
            softplus = F.relu(logits) + F.Activation(-F.abs(logits), act_type='softrelu')
            return F.mean(softplus - targets * logits, axis=1)

        self._of_one, self._of_two = (_hybridized(mx.gluon.nn.HybridLambda(loss_per_example)) for _ in range(2))

    def __call__(self, logits, targets):
        if targets.partner_labels is None:
            return self._of_one(logits, targets.labels)
        return self._of_two(logits, targets.labels, targets.partner_labels, targets.shares)


def _hybridized(block):
    block.hybridize(static_alloc=True, static_shape=True)
    return block
