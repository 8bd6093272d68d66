"""The loops: train, validate, read."""

import math
import time
from dataclasses import dataclass

from imagenet.checkpoints.local_statistics import gather_statistics
from imagenet.checkpoints.manifest import TrainingProgress
from imagenet.checkpoints.saver import CheckpointSaver
from imagenet.common.errors import NonFiniteError, UserError
from imagenet.common.modes import Mode
from imagenet.common.options import MOST_IMAGES, integer, number, pick
from imagenet.reporting.epoch_summary import RecentSteps, log_epoch, run_summary, show_step
from imagenet.reporting.report_file import VALIDATED, Report, describe_best
from imagenet.runtime import distributed
from imagenet.runtime.compat import mx, return_free_memory
from imagenet.runtime.seeds import derive_seed
from imagenet.training.lr_schedule import ScheduleOptions, get_schedule
from imagenet.training.metrics import Sums, epoch_metrics, make_scorer
from imagenet.training.profiler import Profiler
from imagenet.training.resolution_schedule import stage_at
from imagenet.training.step import StepOptions, TrainingStep
from imagenet.training.stop_signals import StopRequest
from imagenet.training.timing import CommunicationTimer, StepMeter

# If dynamic loss scaling skips this many steps in a row, it will not find a small enough scale.
MOST_SKIPPED_STEPS = 20


def add_fit_args(parser):
    group = parser.add_argument_group('Training')
    group.add_argument(
        '--mode',
        type=Mode.of,
        choices=tuple(Mode),
        default=Mode.TRAIN_VAL,
        help='train and validate, only one of them, classify images, make an int8 network, or write the network for '
        'other programs (default: %(default)s)',
    )
    group.add_argument(
        '--seed', type=integer(0, 2**31 - 1), help='makes a CPU run repeatable (default: drawn, and written to the log)'
    )
    group.add_argument(
        '--batch-size',
        type=integer(1, MOST_IMAGES),
        default=192,
        help='images in a step, over all processes and devices',
    )
    group.add_argument(
        '--num-epochs', type=integer(at_least=1), default=90, help='length of the run (default: %(default)s)'
    )
    group.add_argument(
        '--run-epochs',
        type=integer(at_least=-1),
        default=-1,
        help='end this session after N epochs; -1: run to the end',
    )
    group.add_argument(
        '--begin-epoch',
        type=integer(at_least=0),
        default=0,
        help='epoch at which the schedule begins, counted from 0, for use with --load (default: 0)',
    )
    group.add_argument(
        '--disp-batches',
        type=integer(at_least=1),
        default=20,
        help='steps between two lines of progress (default: %(default)s)',
    )
    group.add_argument(
        '--benchmark-iters',
        type=integer(at_least=1),
        help='end each epoch and each validation after N steps (default: run all steps)',
    )
    group.add_argument(
        '--no-metrics', action='store_true', help='measure only the speed of training, not loss and accuracy'
    )
    group.add_argument(
        '--early-stop-top1',
        type=number(above=0, at_most=1),
        help='end the run at this validation accuracy, a fraction, and report the time',
    )
    group.add_argument('--test-io', action='store_true', help='only read the data once, and print the speed')
    group.add_argument(
        '--test-io-mode',
        type=Mode.of,
        choices=(Mode.TRAIN, Mode.VAL),
        default=Mode.TRAIN,
        help='the data that --test-io reads (default: %(default)s)',
    )
    return group


def check_fit_args(args):
    """Raise `UserError` if options contradict each other."""
    if args.run_epochs == 0:
        raise UserError('--run-epochs 0: must be at least 1, or -1 for all')
    if not args.begin_epoch < args.num_epochs:
        raise UserError(f'--begin-epoch {args.begin_epoch}: must be below --num-epochs {args.num_epochs}')
    if args.early_stop_top1 is not None and args.mode is not Mode.TRAIN_VAL:
        raise UserError(f'--early-stop-top1 {args.early_stop_top1:g}: needs --mode train_val')
    is_measured_only = args.test_io or (args.mode is Mode.VAL and args.benchmark_iters is not None)
    if not args.mode.trains and args.load is None and not is_measured_only:
        raise UserError(f'--mode {args.mode} needs a network: --load model_best.params')
    if args.finetune and args.load is None:
        raise UserError('--finetune needs a network to start from: --load NETWORK')
    if args.finetune and not args.mode.trains:
        raise UserError(f'--finetune: --mode {args.mode} trains nothing; leave out --finetune')
    if args.mode is Mode.PRED and args.data_pred is None:
        raise UserError('--mode pred needs an image: --data-pred cat.jpg')


@dataclass
class Run:
    """Everything that training needs.

    Attributes:
        resize: a function of (height, width) that prepares the network for images of that size.
        train_data: `StagedBatches`.
        val_data: `DeviceBatches`, or None if nothing is validated.
    """

    args: object
    net: object
    resize: object
    step: TrainingStep
    train_data: object
    val_data: object
    log: object
    report: Report
    progress: TrainingProgress
    checkpoints: CheckpointSaver
    stop: StopRequest
    profiler: Profiler


def fit(run):
    """Train from the run's progress to its end, and write the report and checkpoints after each epoch.

    A signal ends it early, after saving everything needed to resume; see stop_signals.py.

    Raises:
        UserError: a file is damaged or cannot be written.
        NonFiniteError: the loss is NaN or infinite.
    """
    args, progress = run.args, run.progress
    session_end = args.num_epochs if args.run_epochs == -1 else min(args.num_epochs, progress.epoch + args.run_epochs)
    started = time.perf_counter() - progress.duration
    with run.stop.listening():
        while progress.epoch < session_end and not is_finished(args, progress):
            results = train_and_validate(run)
            progress.duration = time.perf_counter() - started
            if results is None:
                save_stopped(run)
                return
            finish_epoch(run, results)
        finish_writing(run)
    run.profiler.finish()
    run.log.metrics((), run_summary(run.report.metrics))
    if run.report.best is not None:
        run.log.info(describe_best(run.report.best))
    if not is_finished(args, progress):
        run.log.info(f'{progress.epoch} of {args.num_epochs} epochs are done; the same command resumes it')


def is_finished(args, progress):
    """Return whether this session's options leave nothing to do."""
    reached = progress.time_to_accuracy
    has_stopped_early = args.early_stop_top1 is not None and reached is not None
    return progress.epoch >= args.num_epochs or (has_stopped_early and reached['top1'] >= args.early_stop_top1)


def train_and_validate(run):
    """Run one epoch, or the rest of it. Return the metrics by phase, or None if a signal interrupted it."""
    training = train_epoch(run)
    if training is None:
        return None
    results = {'train': training}
    average_running_statistics(run.step)
    if run.val_data is not None:
        run.resize(run.args.image_shape[1:])
        results['val'] = validate(run.args, run.net, run.val_data, run.log, run.stop)
        if run.step.average is not None and results['val'] is not None:
            with run.step.average.applied():
                results['ema'] = validate(run.args, run.net, run.val_data, run.log, run.stop)
    return None if None in results.values() else results


def finish_epoch(run, results):
    """Record an epoch's results, and save the files that are due."""
    args, progress = run.args, run.progress
    for phase, values in results.items():
        run.report.add(phase, values)
    log_epoch(run.log, progress.epoch, args.num_epochs, results)
    progress.start_next_epoch()
    progress.metrics = run.report.metrics
    check_early_stop(run, results)
    write_report(run)
    return_free_memory()
    due = run.checkpoints.files_due(progress.best_top1, results, progress.epoch, is_finished(args, progress))
    run.checkpoints.save(run.net, run.step, progress, due)


def check_early_stop(run, results):
    """Record when --early-stop-top1 was reached, by the parameters or by the averaged ones."""
    wanted, progress = run.args.early_stop_top1, run.progress
    reached = max((results[phase]['top1'] for phase in VALIDATED if phase in results), default=0)
    if wanted is None or reached < wanted:
        return
    progress.time_to_accuracy = {'top1': wanted, 'epochs': progress.epoch, 'seconds': progress.duration}
    run.log.info(f'top-1 {wanted:g} reached after {progress.epoch} epochs and {progress.duration:.1f} s')


def write_report(run):
    run.report.total_duration = run.progress.duration
    run.report.time_to_accuracy = run.progress.time_to_accuracy
    if distributed.rank() == 0:
        run.report.save(run.args.workspace / run.args.report)


def save_stopped(run):
    """Save the state in the middle of an epoch, after a signal."""
    statistics = gather_statistics(run.step)
    average_running_statistics(run.step)
    write_report(run)
    run.checkpoints.save(run.net, run.step, run.progress, statistics=statistics)
    finish_writing(run)
    progress = run.progress
    stage = stage_at(run.args.training_stages, progress.epoch)
    saved = 'nothing was saved (--save-frequency 0)' if run.args.save_frequency == 0 else 'the same command resumes it'
    run.log.info(
        f'stopped by {run.stop.name or "a signal to another process"} in epoch {progress.epoch + 1}, '
        f'after {progress.iteration} of {len(run.train_data.of(stage))} steps: {saved}'
    )
    run.log.end('KILLED')


def finish_writing(run):
    """Return when all files are written. A rank that ended earlier would shut Horovod down while rank 0 writes."""
    run.checkpoints.wait()
    distributed.barrier()


def count_steps(args, data):
    """Return the number of steps in a training epoch: complete updates, at most `--benchmark-iters` steps.

    Raises:
        UserError: an epoch has too few batches for one update.
    """
    steps = min(len(data), args.benchmark_iters or len(data))
    if steps < args.grad_accum_steps:
        raise UserError(f'--grad-accum-steps {args.grad_accum_steps}: an epoch has only {steps} batches')
    return steps - steps % args.grad_accum_steps


def train_epoch(run):
    """Train the rest of an epoch. Return its metrics, or None if a signal came before its end.

    The loop pushes steps to the devices and waits for them only every `--disp-batches` steps and at the end; a
    `StepMeter` counts them as they finish.
    """
    args, progress, epoch = run.args, run.progress, run.progress.epoch
    stage, schedule = prepare_stage(run), get_schedule(pick(ScheduleOptions, args))
    data = run.train_data.of(stage)
    steps = count_steps(args, data)
    if progress.iteration < steps:
        data.reset(epoch, progress.iteration)
    # For optimizers that draw random numbers.
    mx.random.seed(derive_seed(args.seed, epoch, distributed.rank()))
    scale = stage.batch_size / args.batch_size

    def rate_of(iteration):
        return scale * schedule(epoch + iteration / len(data))

    examples_per_step = stage.batch_size // distributed.size()
    bar = run.log.progress(steps, f'epoch {epoch + 1}/{args.num_epochs}', progress.iteration)
    communication = run.step.communication = CommunicationTimer(*progress.communication)
    with bar, StepMeter(pick(StepOptions, args), bar, progress) as meter:
        recent = RecentSteps(meter, stage.batch_size, has_loss=not args.no_metrics)
        for iteration, batches in zip(range(progress.iteration, steps), data):
            learning_rate = rate_of(iteration)
            meter.count(run.step(batches, learning_rate, epoch, iteration), examples_per_step)
            check_loss_scale(run, epoch, iteration)
            run.profiler.step()
            if (iteration + 1) % args.disp_batches == 0:
                show_step(run, epoch, iteration, steps, recent, learning_rate, bar)
            if run.stop.is_agreed() and (iteration + 1) % args.grad_accum_steps == 0:
                break
        meter.wait()
    progress.iteration, progress.sums = meter.iteration, distributed.allreduce_sum(meter.sums.values()).tolist()
    progress.latencies, progress.seconds = meter.latencies, meter.seconds
    progress.communication = [communication.seconds, communication.update_seconds]
    if progress.iteration < steps:
        return None
    metrics = epoch_metrics(meter.sums, meter.latencies, meter.seconds, has_metrics=not args.no_metrics)
    metrics['lr'] = rate_of(steps - 1)
    share = communication.share()
    return metrics if share is None else {**metrics, 'comm_share': share}


def prepare_stage(run):
    """Prepare the network for the image size of the current epoch. Return its `Stage`."""
    stages, epoch = run.args.training_stages, run.progress.epoch
    stage = stage_at(stages, epoch)
    if len(stages) > 1 and epoch == stage.first_epoch:
        height, width = stage.image_size
        run.log.info(f'epoch {epoch + 1}: images of {height}x{width}, batch size {stage.batch_size}')
    run.resize(stage.image_size)
    run.progress.batch_size = stage.batch_size
    return stage


def check_loss_scale(run, epoch, iteration):
    """Log a step that dynamic loss scaling has skipped.

    Raises:
        NonFiniteError: it has skipped many in a row.
    """
    scale = run.step.loss_scale
    if not scale.has_just_skipped():
        return
    place = f'epoch {epoch + 1}, iteration {iteration + 1}'
    if scale.skipped_in_a_row >= MOST_SKIPPED_STEPS:
        raise NonFiniteError(f'the gradients overflowed {scale.skipped_in_a_row} times in a row, last in {place}')
    run.log.info(f'{place}: the gradients overflowed, step skipped; loss scale {scale.value:g}')


def average_running_statistics(step):
    """Average batch norm's running statistics over all ranks, so that every rank validates what rank 0 saves.

    The same goes for their moving averages, in which those of the first device count.
    """
    means_here = []
    for param in step.running:
        on_devices = [array.as_in_context(mx.cpu()) for array in param.list_data()]
        means_here.append(sum(on_devices) / len(on_devices))
    averages = [step.average.arrays[param.name] for param in step.running] if step.average is not None else []
    distributed.average([*means_here, *averages])
    for param, mean in zip(step.running, means_here):
        param.set_data(mean)


def validate(args, net, data, log, stop=None, profiler=None, rows=None):
    """Score every example of the validation set once. Return the metrics, or None if a signal came.

    A batch's latency is the time from data ready to result on the host. The total time includes reading.

    Args:
        rows: the `ExampleRows` that collect the result of each example, or None.

    Raises:
        NonFiniteError: the loss is NaN or infinite.
    """
    data.reset(epoch=0)
    scorer = make_scorer(args.num_classes, on_host=args.device == 'cpu')
    steps = min(len(data), args.benchmark_iters or len(data))
    # Rank 0 has the largest shard, and all ranks check for signals as often as it does.
    most_steps = int(distributed.allreduce_sum([steps if distributed.rank() == 0 else 0])[0])
    sums, latencies, batches = Sums(), [], iter(data)
    start = time.perf_counter()
    with log.progress(steps, 'validation') as bar:
        for step in range(most_steps):
            if step < steps:
                batch_size = data.batch_size
                latencies.append(score(args, net, next(batches), batch_size, scorer, sums, rows))
                bar.update()
                if profiler is not None:
                    profiler.step()
            if stop is not None and stop.is_agreed():
                return None
    distributed.barrier()
    seconds = time.perf_counter() - start
    metrics = {**epoch_metrics(sums, latencies, seconds), 'time': seconds}
    if not math.isfinite(metrics['loss']):
        raise NonFiniteError(f'the validation loss is {metrics["loss"]}: the network outputs NaN or infinity')
    return metrics


def score(args, net, batches, batch_size, scorer, sums, rows=None):
    """Score one batch per device and add the results to `sums` and `rows`. Return the latency in seconds."""
    ready = time.perf_counter()
    pushed = []
    for batch in batches:
        counted = batch_size - batch.pad
        if counted == 0:
            continue
        labels = batch.label[0][:counted]
        logits = net(batch.data[0])[:counted]
        pushed.append((scorer(logits, labels), counted))
        if rows is not None:
            rows.push(logits, labels)
    for wait, counted in pushed:
        sums.add(wait(), counted, args.num_classes)
    if rows is not None:
        rows.fetch()
    return time.perf_counter() - ready


def evaluate(args, net, data, log, report, profiler, rows=None):
    """Score the validation set `--num-epochs` times, as `--mode val` does.

    Args:
        rows: the `ExampleRows` that collect the result of each example, the last time; or None.
    """
    started = time.perf_counter()
    for epoch in range(args.num_epochs):
        is_last = epoch == args.num_epochs - 1
        results = {'val': validate(args, net, data, log, profiler=profiler, rows=rows if is_last else None)}
        report.add('val', results['val'])
        report.total_duration = time.perf_counter() - started
        log_epoch(log, epoch, args.num_epochs, results)
        if distributed.rank() == 0:
            report.save(args.workspace / args.report)
    profiler.finish()
    log.metrics((), run_summary(report.metrics))


def read_only(args, data, log):
    """Read an epoch without a network, to measure the speed of data loading."""
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
                log.info(f'step {step + 1}/{steps}: {images_per_second:.1f} {unit}')
    (total,) = distributed.allreduce_sum([num_read])
    seconds = time.perf_counter() - start
    log.metrics((), {f'{args.mode}.ips': total / seconds})
    log.info(f'read {total:.0f} images in {seconds:.2f} s: {total / seconds:.1f} images/s')
