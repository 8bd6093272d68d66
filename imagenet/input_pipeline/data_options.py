"""The options that every data backend needs."""

from dataclasses import dataclass
from pathlib import Path

from imagenet.common.options import pick
from imagenet.input_pipeline.transforms import EvaluationOptions, InputForm


@dataclass(frozen=True)
class DataOptions:
    """The options of the same names; `batch_size` is the total over all ranks. Backends add further options."""

    data_train: Path
    data_train_idx: Path
    data_val: Path
    data_val_idx: Path
    num_examples: int
    num_classes: int
    batch_size: int
    seed: int
    device: str
    dtype: str
    input_layout: str
    image_shape: tuple
    rgb_mean: tuple
    rgb_std: tuple
    data_val_resize: int
    interpolation: str
    dali_separ_val: bool

    @property
    def evaluation(self):
        return pick(EvaluationOptions, self)

    @property
    def form(self):
        return InputForm(self.image_shape, self.input_layout, self.dtype)
