"""TensorBoard's event files."""

import time
from pathlib import Path

from imagenet.common.errors import UserError


class TensorBoardFile:
    """Writes curves for TensorBoard.

    What is logged is in the file when the call returns, so a run that is killed loses nothing. tensorboardX's
    `SummaryWriter` leaves it to a thread, and its `flush` does not wait for that thread.

    Raises:
        UserError: the folder cannot be written.
    """

    def __init__(self, folder):
        # Loaded here because only runs with --tensorboard need it.
        from tensorboardX.event_file_writer import EventsWriter

        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self._file = EventsWriter(str(Path(folder) / 'events'))
            self._file.flush()
        except OSError as error:
            raise UserError(f'--tensorboard {folder}: cannot write there ({error.strerror})') from None

    def log(self, position, values):
        """Add a point to each curve.

        Args:
            position: where on the horizontal axis; an integer.
            values: from the names of the curves to numbers.
        """
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        for name, value in values.items():
            self._file.write_event(Event(wall_time=time.time(), step=position, summary=scalar(name, value)))
        self._file.flush()
