"""--mode: what a run does."""

import enum


class Mode(str, enum.Enum):
    """A value of --mode. Each member is also its text, such as 'train_val'."""

    TRAIN_VAL = 'train_val'
    TRAIN = 'train'
    VAL = 'val'
    PRED = 'pred'
    CALIBRATE = 'calibrate'
    EXPORT = 'export'

    def __str__(self):
        return self.value

    def __repr__(self):
        return repr(self.value)

    @classmethod
    def of(cls, text):
        """Return the `Mode` with this text, or other text unchanged: an argparse type for `choices=tuple(Mode)`."""
        return cls(text) if text in cls._value2member_map_ else text

    @property
    def trains(self):
        return self in (Mode.TRAIN_VAL, Mode.TRAIN)

    @property
    def validates(self):
        """Whether the validation set is read, if there is one."""
        return self in (Mode.TRAIN_VAL, Mode.VAL, Mode.CALIBRATE)

    @property
    def needs_data(self):
        """Whether the mode needs a data set, or synthetic data instead."""
        return self not in (Mode.PRED, Mode.EXPORT)

    @property
    def is_single_process(self):
        """Whether one process runs the mode, regardless of the number of devices."""
        return self in (Mode.PRED, Mode.CALIBRATE, Mode.EXPORT)
