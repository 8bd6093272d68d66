"""What is logged per step and per epoch: lines for people, the progress bar, DLLogger's metrics."""


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


def run_summary(results):
    """Return the last epoch's metrics under DLLogger's names."""
    summary = {}
    if 'train' in results:
        train = results['train']
        summary.update({'train.loss': train['loss']} if 'loss' in train else {})
        summary['train.ips'] = train['total_ips']
        summary.update({'train.comm_share': train['comm_share']} if 'comm_share' in train else {})
    for phase in ('val', 'ema'):
        if phase in results:
            values = results[phase]
            summary[f'{phase}.accuracy'], summary[f'{phase}.top_k_accuracy_5'] = values['top1'], values['top5']
    if 'val' in results:
        summary['val.ips'] = results['val']['total_ips']
        summary.update({f'val.{name}': value for name, value in results['val'].items() if name.startswith('latency_')})
    return summary


def log_epoch(log, epoch, num_epochs, results):
    log.metrics((epoch,), run_summary(results), epoch + 1)
    parts = [f'epoch {epoch + 1}/{num_epochs}']
    for phase, values in results.items():
        shown = [f'{values["total_ips"]:.1f} images/s']
        if 'loss' in values:
            shown = [f'loss {values["loss"]:.4f}', f'top-1 {values["top1"]!r}', f'top-5 {values["top5"]!r}', *shown]
        if 'comm_share' in values:
            shown.append(f'communication {100 * values["comm_share"]:.1f} % of a step')
        parts.append(f'{phase}: {", ".join(shown)}')
    log.info(' | '.join(parts))
