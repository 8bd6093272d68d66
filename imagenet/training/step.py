"""One training step: mixing, loss, gradients and update, with loss scaling and averaged parameters."""

from dataclasses import dataclass

from imagenet.runtime import distributed
from imagenet.runtime.compat import mx
from imagenet.runtime.seeds import derive_seed
from imagenet.training.ema import ParameterEMA
from imagenet.training.loss_scaling import DynamicLossScaling, FixedLossScaling
from imagenet.training.metrics import make_batch_statistics
from imagenet.training.optimizer import exempt_from_weight_decay
from imagenet.training.timing import CommunicationTimer
from imagenet.training.transfer import freeze

# Number of the random stream of dropout; data loading and mixing use others.
DROPOUT_STREAM = 3


@dataclass(frozen=True)
class StepOptions:
    """The options of the same names."""

    num_classes: int
    grad_accum_steps: int
    grad_clip_norm: float
    wd_exclude: tuple
    ema_decay: float
    ema_warmup: str
    drop_connect: float
    dropout: float
    amp: bool
    no_metrics: bool
    seed: int


class TrainingStep:
    """Forward pass, backward pass and update of a batch, pushed to the devices without waiting for the results.

    Args:
        optimizer: an MXNet optimizer.
        options: `StepOptions`.
        transfer: `TransferOptions`.
        loss: what `make_loss` returns.
        mix: a `Mixing`.

    Attributes:
        trainer: Gluon's trainer, with the optimizer's state.
        loss_scale: a `FixedLossScaling` or `DynamicLossScaling`.
        average: `ParameterEMA`, or None.
        running: the running statistics that training changes, as a list of parameters.
        communication: a `CommunicationTimer`, which the loop replaces at the start of each epoch.
    """

    def __init__(self, net, devices, optimizer, options, transfer, loss, mix):
        params = net.collect_params()
        exempt_from_weight_decay(net, options.wd_exclude)
        self._net, changing = freeze(net, transfer)
        self._options = options
        self._loss = loss
        self._mix = mix
        self._statistics = make_batch_statistics(options.num_classes)
        self._statistics.hybridize(static_alloc=True, static_shape=True)
        self._trained = [param for param in changing.values() if param.grad_req != 'null']
        self.running = [param for param in changing.values() if param.grad_req == 'null']
        if options.grad_accum_steps > 1:
            for param in self._trained:
                param.grad_req = 'add'
        self.trainer = distributed.make_trainer(params, optimizer, devices)
        self.communication = CommunicationTimer()
        self.loss_scale = DynamicLossScaling() if options.amp else FixedLossScaling(loss.gradient_scale)
        self.average = (
            None if options.ema_decay is None else ParameterEMA(changing, options.ema_decay, options.ema_warmup)
        )

    def __call__(self, batches, learning_rate, epoch, iteration):
        """Take one step.

        Returns:
            For each device, its batch statistics, or only its losses with `--no-metrics`; see `StepMeter.count`.
        """
        update_in_epoch, batch_of_update = divmod(iteration, self._options.grad_accum_steps)
        if batch_of_update == 0:
            self.communication.begin(update_in_epoch)
        if self._options.drop_connect or self._options.dropout:
            # In each step, so that a run that resumes in the middle of an epoch draws the same.
            mx.random.seed(derive_seed(self._options.seed, DROPOUT_STREAM, epoch, iteration, distributed.rank()))
        running = self._copy_running_statistics() if self._options.amp else None
        mixed = [
            self._mix(batch.data[0], batch.label[0], (epoch, iteration, distributed.rank(), device_index))
            for device_index, batch in enumerate(batches)
        ]
        with mx.autograd.record():
            logits = [self._net(images) for images, _ in mixed]
            losses = [self._loss(scores, targets) for scores, (_, targets) in zip(logits, mixed)]
        scale = self.loss_scale.value
        mx.autograd.backward(losses, None if scale == 1 else [mx.nd.ones_like(loss) * scale for loss in losses])
        if batch_of_update == self._options.grad_accum_steps - 1:
            examples = sum(len(batch.label[0]) for batch in batches) * distributed.size()
            if not self._update(learning_rate, scale, examples * self._options.grad_accum_steps):
                self._restore_running_statistics(running)
            self.communication.end()
        if self._options.no_metrics:
            return losses
        return [
            self._statistics(loss, scores, targets.likeliest())
            for loss, scores, (_, targets) in zip(losses, logits, mixed)
        ]

    def _update(self, learning_rate, scale, examples):
        """Update the parameters from the gradients of all ranks; return False if a gradient has overflowed.

        Args:
            examples: the number of examples that the gradients are sums over, on all ranks.
        """
        self.trainer.set_learning_rate(learning_rate)
        self.communication.run(self.trainer.allreduce_grads)
        is_finite = self.loss_scale.check_gradients([param.list_grad()[0] for param in self._trained])
        if is_finite:
            if self._options.grad_clip_norm is not None:
                self._clip_gradients(self._options.grad_clip_norm * examples * scale)
            self.trainer.update(examples // distributed.size() * scale)
            if self.average is not None:
                self.average.update()
        if self._options.grad_accum_steps > 1:
            for param in self._trained:
                param.zero_grad()
        return is_finite

    def _clip_gradients(self, norm_of_sum):
        """Clip the gradients, which are still sums over examples before the update."""
        for device in range(len(self._trained[0].list_grad())):
            gradients = [param.list_grad()[device] for param in self._trained]
            mx.gluon.utils.clip_global_norm(gradients, norm_of_sum, check_isfinite=False)

    def _copy_running_statistics(self):
        return [[array.copy() for array in param.list_data()] for param in self.running]

    def _restore_running_statistics(self, copies):
        """Restore the running statistics of batch norm, which a skipped batch may have set to NaN."""
        for param, arrays in zip(self.running, copies):
            for array, copy in zip(param.list_data(), arrays):
                copy.copyto(array)
