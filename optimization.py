"""One step of training: loss, mixup, gradients, update, and what keeps float16 and averaged weights going."""

import inspect

import numpy as np

import distributed
from compat import mx
from errors import UserError
from metrics import BatchStatistics, CommunicationTimer
from sampling import derive_seed

autograd, gluon = mx.autograd, mx.gluon

DEFAULT_MOMENTUM = 0.875
# The stream of random numbers that mixup draws from, beside those of the data.
MIXUP_STREAM = 1


def add_optimization_args(parser):
    group = parser.add_argument_group('Optimization')
    group.add_argument(
        '--optimizer',
        default='sgd',
        help='any optimizer of MXNet by its name there, such as nag, adam, lamb (default: %(default)s)',
    )
    group.add_argument(
        '--mom',
        type=float,
        default=DEFAULT_MOMENTUM,
        help='momentum, for optimizers that have one (default: %(default)s)',
    )
    group.add_argument(
        '--wd', type=float, default=1 / 32768, help='weight decay, on weights only (default: %(default)s)'
    )
    group.add_argument(
        '--label-smoothing', type=float, default=0.1, help='share of the uniform label (default: %(default)s)'
    )
    group.add_argument(
        '--mixup',
        type=float,
        default=0,
        help='mix each training image with another one, with shares from Beta(X, X); 0: not at all (default: 0)',
    )
    group.add_argument(
        '--grad-accum-steps',
        type=int,
        default=1,
        help='batches whose gradients are averaged for one update (default: %(default)s)',
    )
    group.add_argument(
        '--grad-clip-norm',
        type=float,
        help='scale the gradient of all parameters together down to this norm where it is larger (default: leave it)',
    )
    group.add_argument(
        '--ema-decay',
        type=float,
        help='also keep, validate and save an exponential moving average of the parameters, such as 0.9999',
    )
    group.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision by MXNet, with dynamic loss scaling: float16 on a GPU, bfloat16 on a CPU',
    )
    return group


def check_optimization_args(args):
    """Raises `UserError` for options that contradict each other or have no meaning."""
    for name, is_right, needed in (
        ('mom', 0 <= args.mom < 1, '0 <= value < 1'),
        ('wd', 0 <= args.wd < np.inf, 'a number of at least 0'),
        ('label_smoothing', 0 <= args.label_smoothing < 1, '0 <= smoothing < 1'),
        ('mixup', 0 <= args.mixup < np.inf, 'a number of at least 0'),
        ('grad_accum_steps', args.grad_accum_steps >= 1, 'at least 1'),
        ('grad_clip_norm', args.grad_clip_norm is None or args.grad_clip_norm > 0, 'more than 0'),
        ('ema_decay', args.ema_decay is None or 0 < args.ema_decay < 1, '0 < decay < 1'),
    ):
        if not is_right:
            raise UserError(f'--{name.replace("_", "-")} {getattr(args, name):g}: needed is {needed}')
    known = mx.optimizer.Optimizer.opt_registry
    if args.optimizer.lower() not in known:
        raise UserError(f'--optimizer {args.optimizer}: MXNet has {", ".join(sorted(known))}')
    if args.mom != DEFAULT_MOMENTUM and not _has_momentum(args.optimizer):
        raise UserError(f'--mom {args.mom:g}: --optimizer {args.optimizer} has no momentum')
    if args.amp and args.dtype == 'float16':
        raise UserError('--amp with --dtype float16: it chooses precisions itself; use --dtype float32')


def _has_momentum(optimizer):
    return 'momentum' in inspect.signature(mx.optimizer.Optimizer.opt_registry[optimizer.lower()]).parameters


class CrossEntropy(gluon.HybridBlock):
    """Cross-entropy with smoothed labels, Szegedy et al. (arXiv:1512.00567), section 7.

    Inputs: logits `(N, num_classes)`, class indices `(N,)`. Output: `(N,)`.
    """

    def __init__(self, smoothing=0.0):
        super().__init__()
        self._smoothing = smoothing

    def hybrid_forward(self, F, logits, labels):
        log_probabilities = F.log_softmax(logits)
        loss = -F.pick(log_probabilities, labels)
        if self._smoothing:
            uniform_loss = -F.mean(log_probabilities, axis=1)
            loss = (1 - self._smoothing) * loss + self._smoothing * uniform_loss
        return loss


class PlainLoss:
    """The loss of a batch as it is."""

    def __init__(self, cross_entropy):
        self._cross_entropy = cross_entropy

    def __call__(self, net, images, labels, moment):
        """(logits, loss per example, labels that count as right)."""
        logits = net(images)
        return logits, self._cross_entropy(logits, labels), labels


class MixupLoss:
    """Mixes each image with another of its batch, and their labels alike; Zhang et al. (arXiv:1710.09412), section 2.

    Args:
        alpha: the shares are drawn from Beta(alpha, alpha), one per image.
        seed: the run's seed; what is drawn follows from it and the `moment`.
    """

    def __init__(self, cross_entropy, alpha, seed):
        self._cross_entropy = cross_entropy
        self._alpha = alpha
        self._seed = seed
        self._mix = _Mix()
        self._mix.hybridize(static_alloc=True, static_shape=True)

    def __call__(self, net, images, labels, moment):
        """As `PlainLoss`; right is the label with the larger share."""
        random = np.random.RandomState(derive_seed(self._seed, MIXUP_STREAM, *moment))
        shares = random.beta(self._alpha, self._alpha, size=len(labels)).astype(np.float32)
        partners = random.permutation(len(labels))
        shares, partners = (mx.nd.array(values, ctx=images.context) for values in (shares, partners))
        mixed, partner_labels, larger = self._mix(images, labels, shares, shares.astype(images.dtype), partners)
        logits = net(mixed)
        loss = shares * self._cross_entropy(logits, labels)
        return logits, loss + (1 - shares) * self._cross_entropy(logits, partner_labels), larger


class _Mix(gluon.HybridBlock):
    def hybrid_forward(self, F, images, labels, shares, shares_of_images, partners):
        partner_labels = F.take(labels, partners)
        shares_of_images = F.reshape(shares_of_images, (-1, 1, 1, 1))
        own = F.broadcast_mul(images, shares_of_images)
        mixed = own + F.broadcast_mul(F.take(images, partners), 1 - shares_of_images)
        return mixed, partner_labels, F.where(shares >= 0.5, labels, partner_labels)


def make_optimizer(args):
    """The optimizer that `--optimizer` names. Weight decay is per parameter: see `exempt_from_weight_decay`."""
    settings = {'learning_rate': args.lr, 'wd': args.wd, 'multi_precision': args.dtype == 'float16'}
    if _has_momentum(args.optimizer):
        settings['momentum'] = args.mom
    return mx.optimizer.create(args.optimizer, **settings)


def exempt_from_weight_decay(params):
    """Leaves weight decay to weights: batch norm's gamma and beta and all biases go without."""
    for name, param in params.items():
        if not name.endswith('weight'):
            param.wd_mult = 0.0


class FixedScale:
    """No loss scaling: every update is made."""

    value = 1.0

    def allows(self, gradients):
        return True

    def has_just_skipped(self):
        return False


class DynamicScale:
    """Scales the loss so that small gradients survive float16; Micikevicius et al. (arXiv:1710.03740), section 3.2.

    It is halved where a gradient overflows, whose update is skipped, and doubled after many that did not.
    """

    FIRST, LARGEST, STEPS_BETWEEN_DOUBLINGS = 2.0**16, 2.0**24, 2000

    def __init__(self):
        self.value = self.FIRST
        self.steps_since_change = 0
        self.skipped_in_a_row = 0
        self.has_news = False

    def allows(self, gradients):
        """Whether the gradients, scaled and summed over all processes, are finite; waits for them."""
        is_finite = mx.nd.multi_all_finite(*gradients, num_arrays=len(gradients)).asscalar() == 1
        self.steps_since_change += 1
        self.has_news = True
        if not is_finite:
            self.value = max(1.0, self.value / 2)
            self.steps_since_change = 0
            self.skipped_in_a_row += 1
        else:
            self.skipped_in_a_row = 0
            if self.steps_since_change >= self.STEPS_BETWEEN_DOUBLINGS:
                self.value = min(self.LARGEST, self.value * 2)
                self.steps_since_change = 0
        return is_finite

    def has_just_skipped(self):
        """Whether the last update was skipped; once per update."""
        has_skipped, self.has_news = self.has_news and self.skipped_in_a_row > 0, False
        return has_skipped


class AveragedParameters:
    """An exponential moving average of all parameters, running statistics included, in float32.

    The decay grows to its value over the first updates, min(decay, (1 + n) / (10 + n)), as in TensorFlow's
    `ExponentialMovingAverage`, so that the average forgets the initial values.

    Args:
        params: name to `Parameter`.
    """

    def __init__(self, params, decay):
        self._params = params
        self._decay = decay
        self.updates = 0
        self.arrays = {name: param.data(param.list_ctx()[0]).astype('float32') for name, param in params.items()}

    def update(self):
        self.updates += 1
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        for name, average in self.arrays.items():
            param = self._params[name]
            value = param.data(param.list_ctx()[0]).astype('float32', copy=False)
            mx.nd.elemwise_add(decay * average, (1 - decay) * value, out=average)


class TrainingStep:
    """Forward, backward and update of a batch, pushed to the devices without waiting for any of them.

    Attributes:
        trainer: Gluon's trainer, with the optimizer's state.
        loss_scale: a `FixedScale` or `DynamicScale`.
        average: `AveragedParameters`, or None.
        communication: a `CommunicationTimer`, which the loop replaces at the begin of an epoch.
    """

    def __init__(self, args, net, devices):
        params = net.collect_params()
        exempt_from_weight_decay(params)
        self._args = args
        self._net = net
        cross_entropy = CrossEntropy(args.label_smoothing)
        self._statistics = BatchStatistics(args.num_classes)
        for block in (cross_entropy, self._statistics):
            block.hybridize(static_alloc=True, static_shape=True)
        self._loss = MixupLoss(cross_entropy, args.mixup, args.seed) if args.mixup else PlainLoss(cross_entropy)
        self._trained = [param for param in params.values() if param.grad_req != 'null']
        if args.grad_accum_steps > 1:
            for param in self._trained:
                param.grad_req = 'add'
        self._running = [param for param in params.values() if param.grad_req == 'null']
        self.trainer = distributed.make_trainer(params, make_optimizer(args), devices)
        self.communication = CommunicationTimer()
        self.loss_scale = DynamicScale() if args.amp else FixedScale()
        self.average = None if args.ema_decay is None else AveragedParameters(params, args.ema_decay)

    def __call__(self, batches, learning_rate, epoch, iteration):
        """Takes one step.

        Returns:
            Per device what `StepMeter.count` takes: its `BatchStatistics`, or only its losses with `--no-metrics`.
        """
        update_in_epoch, batch_of_update = divmod(iteration, self._args.grad_accum_steps)
        if batch_of_update == 0:
            self.communication.begin(update_in_epoch)
        running = self._copy_running_statistics() if self._args.amp else None
        outputs = []
        with autograd.record():
            for device_index, batch in enumerate(batches):
                moment = epoch, iteration, distributed.rank(), device_index
                outputs.append(self._loss(self._net, batch.data[0], batch.label[0], moment))
        losses = [loss for _, loss, _ in outputs]
        scale = self.loss_scale.value
        autograd.backward(losses, None if scale == 1 else [mx.nd.ones_like(loss) * scale for loss in losses])
        if batch_of_update == self._args.grad_accum_steps - 1:
            if not self._update(learning_rate, scale):
                self._restore_running_statistics(running)
            self.communication.end()
        if self._args.no_metrics:
            return losses
        return [self._statistics(loss, logits, labels) for logits, loss, labels in outputs]

    def _update(self, learning_rate, scale):
        """Updates the parameters from the gradients of all processes; False where they have overflowed."""
        examples = self._args.batch_size * self._args.grad_accum_steps
        self.trainer.set_learning_rate(learning_rate)
        self.communication.run(self.trainer.allreduce_grads)
        is_finite = self.loss_scale.allows([param.list_grad()[0] for param in self._trained])
        if is_finite:
            if self._args.grad_clip_norm is not None:
                self._clip_gradients(self._args.grad_clip_norm * examples * scale)
            self.trainer.update(examples // distributed.size() * scale)
            if self.average is not None:
                self.average.update()
        if self._args.grad_accum_steps > 1:
            for param in self._trained:
                param.zero_grad()
        return is_finite

    def _clip_gradients(self, norm_of_sum):
        """Clips sums over examples, which is what gradients are before the update."""
        for device in range(len(self._trained[0].list_grad())):
            gradients = [param.list_grad()[device] for param in self._trained]
            gluon.utils.clip_global_norm(gradients, norm_of_sum, check_isfinite=False)

    def _copy_running_statistics(self):
        return [[array.copy() for array in param.list_data()] for param in self._running]

    def _restore_running_statistics(self, copies):
        """Forgets what a batch did to batch norm whose update was skipped, which may be no number."""
        for param, arrays in zip(self._running, copies):
            for array, copy in zip(param.list_data(), arrays):
                copy.copyto(array)
