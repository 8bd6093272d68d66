"""The loops: train, validate, predict."""

import math
import time

import numpy as np

import distributed
from compat import mx
from errors import UserError
from metrics import BatchStatistics, StepMeter, Sums, latency_summary, means
from schedule import get_schedule

autograd, gluon = mx.autograd, mx.gluon


def add_fit_args(parser):
    group = parser.add_argument_group('Training')
    group.add_argument(
        '--mode',
        choices=('train_val', 'train', 'val', 'pred'),
        default='train_val',
        help='train and validate, only one of them, or classify an image (default: %(default)s)',
    )
    group.add_argument('--seed', type=int, help='makes a CPU run repeatable (default: drawn, and written to the log)')
    group.add_argument('--batch-size', type=int, default=192, help='images in a step, over all processes and devices')
    group.add_argument('--num-epochs', type=int, default=90, help='length of the run (default: %(default)s)')
    group.add_argument('--lr', type=float, default=0.1, help='learning rate after the warm-up (default: %(default)s)')
    group.add_argument(
        '--warmup-epochs', type=float, default=5, help='epochs of linear warm-up from 0 (default: %(default)s)'
    )
    group.add_argument('--mom', type=float, default=0.875, help='SGD momentum (default: %(default)s)')
    group.add_argument(
        '--wd', type=float, default=1 / 32768, help='weight decay, on weights only (default: %(default)s)'
    )
    group.add_argument(
        '--label-smoothing', type=float, default=0.1, help='share of the uniform label (default: %(default)s)'
    )
    group.add_argument(
        '--disp-batches', type=int, default=20, help='steps between two lines of progress (default: %(default)s)'
    )
    group.add_argument(
        '--benchmark-iters', type=int, help='end an epoch, and a validation, after so many steps (default: at its end)'
    )
    group.add_argument('--model-prefix', default='model', help="start of the checkpoints' names (default: %(default)s)")
    group.add_argument(
        '--save-frequency',
        type=int,
        default=-1,
        help='-1: save the best network; n: also every n epochs; 0: save nothing (default: %(default)s)',
    )
    group.add_argument('--test-io', action='store_true', help='only read the data once, and tell how fast that is')
    group.add_argument(
        '--test-io-mode',
        choices=('train', 'val'),
        default='train',
        help='the data that --test-io reads (default: %(default)s)',
    )
    group.add_argument('--load', help='a .params file to start from, to validate or to predict with')
    return group


def check_fit_args(args):
    """Raises `UserError` for options that contradict each other; touches no file."""
    for name in ('batch_size', 'num_epochs', 'disp_batches', 'benchmark_iters'):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f'--{name.replace("_", "-")} {value}: needed is at least 1')
    if args.seed is not None and not 0 <= args.seed < 2**31:
        raise UserError(f'--seed {args.seed}: needed is 0 to {2**31 - 1}')
    for name, below in (('lr', math.inf), ('mom', 1), ('wd', math.inf), ('warmup_epochs', math.inf)):
        value = getattr(args, name)
        if not 0 <= value < below:
            limit = f'0 <= value < {below}' if below < math.inf else 'a number of at least 0'
            raise UserError(f'--{name.replace("_", "-")} {value:g}: needed is {limit}')
    if not 0 <= args.label_smoothing < 1:
        raise UserError(f'--label-smoothing {args.label_smoothing:g}: needed is 0 <= smoothing < 1')
    if args.save_frequency < -1:
        raise UserError(f'--save-frequency {args.save_frequency}: needed is -1, 0 or the number of epochs between two')
    if args.mode in ('val', 'pred') and args.load is None and not args.test_io:
        raise UserError(f'--mode {args.mode} needs a network: --load model_best.params')
    if args.mode == 'pred' and args.data_pred is None:
        raise UserError('--mode pred needs an image: --data-pred cat.jpg')


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


def make_optimizer(args):
    """SGD with momentum as the recipe has it. Weight decay is per parameter: see `exempt_from_weight_decay`."""
    return mx.optimizer.SGD(
        learning_rate=args.lr, momentum=args.mom, wd=args.wd, multi_precision=args.dtype == 'float16'
    )


def exempt_from_weight_decay(params):
    """Leaves weight decay to weights: batch norm's gamma and beta and all biases go without."""
    for name, param in params.items():
        if not name.endswith('weight'):
            param.wd_mult = 0.0


class TrainingStep:
    """Forward, backward and update of one batch, pushed to the devices without waiting for any of them."""

    def __init__(self, args, net, num_classes, devices):
        params = net.collect_params()
        exempt_from_weight_decay(params)
        self._net = net
        self._process_batch = args.batch_size // distributed.size()
        self._loss = CrossEntropy(args.label_smoothing)
        self._statistics = BatchStatistics(num_classes)
        for block in (self._loss, self._statistics):
            block.hybridize(static_alloc=True, static_shape=True)
        self.trainer = distributed.make_trainer(params, make_optimizer(args), len(devices))

    def __call__(self, batches, learning_rate):
        """Takes one step and returns each device's `BatchStatistics`."""
        self.trainer.set_learning_rate(learning_rate)
        outputs = []
        with autograd.record():
            for batch in batches:
                logits = self._net(batch.data[0])
                outputs.append((self._loss(logits, batch.label[0]), logits, batch.label[0]))
        autograd.backward([loss for loss, _, _ in outputs])
        self.trainer.step(self._process_batch)
        return [self._statistics(*output) for output in outputs]


def summarize(sums, latencies, seconds):
    """One epoch's metrics over all processes, under the names of the report.

    Args:
        sums: this process's `Sums`.
        latencies: seconds of each of this process's steps.
        seconds: the epoch's time.
    """
    total = distributed.allreduce_sum(sums.values())
    return {**means(total), 'total_ips': total[-1] / seconds, **latency_summary(latencies)}


def train_epoch(args, epoch, step, data, schedule, log):
    """Trains one epoch and returns its metrics.

    The loop pushes steps to the devices and never waits for one, except every `--disp-batches` and at the end; a
    `StepMeter` counts them as they are done.
    """
    data.reset(epoch)
    steps = min(len(data), args.benchmark_iters or len(data))
    examples_per_step = args.batch_size // distributed.size()
    with log.progress(steps, f'epoch {epoch + 1}/{args.num_epochs}') as bar, StepMeter(args.num_classes, bar) as meter:
        shown = Progress(meter, args.batch_size)
        for iteration, batches in zip(range(steps), data):
            learning_rate = schedule(epoch + iteration / len(data))
            meter.count(step(batches, learning_rate), examples_per_step)
            if (iteration + 1) % args.disp_batches == 0:
                loss, images_per_second = shown.since_last()
                log.metrics(
                    (epoch, iteration),
                    {'train.loss': loss, 'train.ips': images_per_second, 'train.lr': learning_rate},
                )
                bar.set_postfix_str(f'loss {loss:.4f}, {images_per_second:.0f} images/s, lr {learning_rate:.4g}')
                if not log.shows_progress:
                    log.say(
                        f'epoch {epoch + 1} step {iteration + 1}/{steps}: loss {loss:.4f}, '
                        f'{images_per_second:.1f} images/s, learning rate {learning_rate:.5g}'
                    )
        meter.wait()
    return summarize(meter.sums, meter.latencies, meter.seconds)


class Progress:
    """What was trained since the last time somebody asked."""

    def __init__(self, meter, examples_per_step):
        self._meter = meter
        self._examples_per_step = examples_per_step
        self._steps, self._loss, self._examples, self._seconds = 0, 0.0, 0, 0.0

    def since_last(self):
        """Waits for the steps so far; mean loss on this process and images per second over all of them."""
        meter = self._meter
        meter.wait()
        loss = (meter.sums.loss - self._loss) / (meter.sums.examples - self._examples)
        steps = len(meter.latencies) - self._steps
        images_per_second = steps * self._examples_per_step / (meter.seconds - self._seconds)
        self._steps, self._loss = len(meter.latencies), meter.sums.loss
        self._examples, self._seconds = meter.sums.examples, meter.seconds
        return loss, images_per_second


def average_running_statistics(net):
    """Makes batch norm's running statistics the mean over processes, so that all validate what rank 0 saves."""
    suffixes = ('running_mean', 'running_var')
    params = [param for name, param in net.collect_params().items() if name.endswith(suffixes)]
    means_here = []
    for param in params:
        on_devices = [array.as_in_context(mx.cpu()) for array in param.list_data()]
        means_here.append(sum(on_devices) / len(on_devices))
    distributed.average(means_here)
    for param, mean in zip(params, means_here):
        param.set_data(mean)


def validate(args, net, data, epoch, log):
    """Scores every example of the validation set once and returns the metrics.

    A batch's latency is from data ready to result on the host. The time of the whole counts reading, too.
    """
    data.reset(epoch)
    cross_entropy, statistics = CrossEntropy(), BatchStatistics(args.num_classes)
    cross_entropy.hybridize()
    statistics.hybridize()
    steps = min(len(data), args.benchmark_iters or len(data))
    sums, latencies = Sums(), []
    start = time.perf_counter()
    with log.progress(steps, 'validation') as bar:
        for _, batches in zip(range(steps), data):
            ready = time.perf_counter()
            pushed = []
            for batch in batches:
                counted = data.batch_size - batch.pad
                if counted == 0:
                    continue
                labels = batch.label[0][:counted]
                logits = net(batch.data[0])[:counted]
                pushed.append((statistics(cross_entropy(logits, labels), logits, labels), counted))
            for result, counted in pushed:
                sums.add(result.asnumpy(), counted, args.num_classes)
            latencies.append(time.perf_counter() - ready)
            bar.update()
    distributed.barrier()
    seconds = time.perf_counter() - start
    return {**summarize(sums, latencies, seconds), 'time': seconds}


def read_only(args, data, log):
    """Reads an epoch without a network, which shows how fast data can come."""
    start = time.perf_counter()
    data.reset(epoch=0)
    steps = min(len(data), args.benchmark_iters or len(data))
    num_read, unit = 0, 'images/s on this process'
    with log.progress(steps, 'reading') as bar:
        for step, batches in zip(range(steps), data):
            for batch in batches:
                batch.data[0].wait_to_read()
                num_read += data.batch_size - batch.pad
            images_per_second = num_read / (time.perf_counter() - start)
            bar.update()
            bar.set_postfix_str(f'{images_per_second:.0f} {unit}')
            if (step + 1) % args.disp_batches == 0 and not log.shows_progress:
                log.say(f'step {step + 1}/{steps}: {images_per_second:.1f} {unit}')
    (total,) = distributed.allreduce_sum([num_read])
    seconds = time.perf_counter() - start
    log.metrics((), {f'{args.mode}.ips': total / seconds})
    log.say(f'read {total:.0f} images in {seconds:.2f} s: {total / seconds:.1f} images/s')


def fit(args, net, train_data, val_data, devices, log, report, checkpoints):
    """Runs the epochs of `--mode train_val`, `train` or `val`, and writes report and checkpoints after each."""
    start = time.perf_counter()
    step = TrainingStep(args, net, args.num_classes, devices) if train_data is not None else None
    schedule = get_schedule(args)
    for epoch in range(args.num_epochs):
        results = {}
        if train_data is not None:
            results['train'] = train_epoch(args, epoch, step, train_data, schedule, log)
            average_running_statistics(net)
        if val_data is not None:
            results['val'] = validate(args, net, val_data, epoch, log)
        for phase, values in results.items():
            report.add(phase, values)
        report.total_duration = time.perf_counter() - start
        log_epoch(log, epoch, args.num_epochs, results)
        if distributed.rank() == 0:
            report.save(args.workspace / args.report)
            if train_data is not None:
                top1 = results['val']['top1'] if val_data is not None else None
                is_last = epoch + 1 == args.num_epochs
                for path in checkpoints.epoch_end(net, epoch + 1, is_last, top1):
                    log.say(f'saved {path}')
    log.metrics((), run_summary(results))


def run_summary(results):
    """The last epoch's metrics under DLLogger's names."""
    summary = {}
    if 'train' in results:
        summary.update({'train.loss': results['train']['loss'], 'train.ips': results['train']['total_ips']})
    if 'val' in results:
        val = results['val']
        summary.update({'val.accuracy': val['top1'], 'val.top_k_accuracy_5': val['top5'], 'val.ips': val['total_ips']})
        summary.update({f'val.{name}': value for name, value in val.items() if name.startswith('latency_')})
    return summary


def log_epoch(log, epoch, num_epochs, results):
    log.metrics((epoch,), run_summary(results))
    parts = [f'epoch {epoch + 1}/{num_epochs}']
    for phase, values in results.items():
        parts.append(
            f'{phase}: loss {values["loss"]:.4f}, top-1 {values["top1"]!r}, top-5 {values["top5"]!r}, '
            f'{values["total_ips"]:.1f} images/s'
        )
    log.say(' | '.join(parts))


def predict(net, image, count):
    """The likeliest classes of one image.

    Args:
        image: a batch of one, as the network takes it.
        count: how many classes.

    Returns:
        A list of (class index, probability), the likeliest first.
    """
    probabilities = mx.nd.softmax(net(image))[0].asnumpy()
    likeliest = np.argsort(-probabilities, kind='stable')[:count]
    return [(int(index), float(probabilities[index])) for index in likeliest]
