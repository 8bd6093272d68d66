"""What is logged per step, per epoch and per run: lines for people, the progress bar, DLLogger's metrics."""

import statistics

LATENCIES = tuple(f'val.latency_{name}' for name in ('avg', '50', '90', '95', '99', '100'))
# The report's names of the metrics that are logged, and DLLogger's.
DLLOGGER_NAMES = {
    **{name: name for name in ('train.loss', 'train.top1', 'train.top5')},
    'train.total_ips': 'train.ips',
    'train.comm_share': 'train.comm_share',
    **{
        f'{phase}.{name}': f'{phase}.{logged}'
        for phase in ('val', 'ema')
        for name, logged in (('loss', 'loss'), ('top1', 'accuracy'), ('top5', 'top_k_accuracy_5'))
    },
    'val.total_ips': 'val.ips',
    **{name: name for name in LATENCIES},
}


def show_step(run, epoch, iteration, steps, recent, learning_rate, bar):
    """Log the speed, the loss and the learning rate of the latest steps."""
    values = recent.since_last()
    images_per_second = values['ips']
    logged = {'train.ips': images_per_second, 'train.lr': learning_rate}
    speed = f'{images_per_second:.1f} images/s'
    if 'loss' in values:
        logged = {'train.loss': values['loss'], **logged}
        speed = f'loss {values["loss"]:.4f}, {speed}'
    run.log.metrics((epoch, iteration), logged, epoch * steps + iteration)
    bar.set_postfix_str(f'{speed}, lr {learning_rate:.4g}')
    if not run.log.shows_progress:
        run.log.info(f'epoch {epoch + 1} step {iteration + 1}/{steps}: {speed}, learning rate {learning_rate:.5g}')


class RecentSteps:
    """The speed and the loss of the steps since the last call of `since_last`."""

    def __init__(self, meter, batch_size, has_loss):
        self._meter = meter
        self._batch_size = batch_size
        self._has_loss = has_loss
        self._remember()

    def _remember(self):
        meter = self._meter
        self._steps, self._seconds = len(meter.latencies), meter.seconds
        self._loss, self._examples = meter.sums.loss, meter.sums.examples

    def since_last(self):
        """Wait for the steps so far, and return images/s over all ranks and, unless disabled, this rank's mean loss."""
        meter = self._meter
        meter.wait()
        steps, examples = len(meter.latencies) - self._steps, meter.sums.examples - self._examples
        values = {'ips': steps * self._batch_size / (meter.seconds - self._seconds)}
        if examples and self._has_loss:
            values['loss'] = (meter.sums.loss - self._loss) / examples
        self._remember()
        return values


def epoch_summary(results):
    """Return an epoch's metrics, given by phase, under DLLogger's names."""
    values = {f'{phase}.{name}': value for phase, metrics in results.items() for name, value in metrics.items()}
    return {DLLOGGER_NAMES[name]: values[name] for name in DLLOGGER_NAMES if name in values}


def run_summary(metrics):
    """Return what a whole run achieved, under DLLogger's names.

    This is the smallest loss, the best accuracy, and the mean of every other metric over the epochs.

    Args:
        metrics: of a `Report`: a list per name with one value per epoch.
    """
    reduce = {'loss': min, 'top1': max, 'top5': max}
    return {
        DLLOGGER_NAMES[name]: reduce.get(name.split('.')[1], statistics.fmean)(metrics[name])
        for name in DLLOGGER_NAMES
        if name in metrics
    }


def log_epoch(log, epoch, num_epochs, results):
    log.metrics((epoch,), epoch_summary(results), epoch + 1)
    phases = [f'{phase}: {describe_phase(values)}' for phase, values in results.items()]
    log.info(' | '.join([f'epoch {epoch + 1}/{num_epochs}', *phases]))


def describe_phase(values):
    """Return the metrics of training or of a validation as part of a line."""
    shown = [f'{values["total_ips"]:.1f} images/s']
    if 'loss' in values:
        shown = [f'loss {values["loss"]:.4f}', f'top-1 {values["top1"]:.4f}', f'top-5 {values["top5"]:.4f}', *shown]
    if 'real_top1' in values:
        shown.append(f'top-1 with reassessed labels {values["real_top1"]:.4f}')
    if 'comm_share' in values:
        shown.append(f'communication {100 * values["comm_share"]:.1f} % of a step')
    return ', '.join(shown)
