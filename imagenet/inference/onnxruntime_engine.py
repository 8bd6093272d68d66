"""ONNX Runtime as an engine; see engines.py."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

# Only errors: warnings are about nodes of the graph.
LOG_SEVERITY = 3


class OnnxRuntimeEngine:
    """An ONNX file that ONNX Runtime computes on the CPU.

    With a fixed batch size, it is a tenth faster. So its session has one: that of the latest batch. A batch that is
    a little smaller, such as one with an unreadable image, is filled up; another size takes a new session.

    Args:
        model: the bytes of the file, with the input `data` and the batch size `N`.
        threads: the number of threads that compute.
        dtype: the precision, one of `DTYPES`.

    Attributes:
        version: its name and version.
    """

    DTYPES = ('float32',)

    def __init__(self, model, threads, dtype='float32'):
        import onnxruntime

        self.version = f'ONNX Runtime {onnxruntime.__version__}'
        self._model = model
        self._threads = threads
        self._session = None
        self._size = 0
        # `InferenceSession.run_async` fails if there is only one thread.
        self._caller = ThreadPoolExecutor(1, thread_name_prefix='onnxruntime')

    def start(self, images):
        """Start to compute the logits of images `(N, 3, H, W)`; return a function that waits for them."""
        return self._caller.submit(self._compute, images).result

    def _compute(self, images):
        size = len(images)
        if not self._size / 2 < size <= self._size:
            self._open(size)
        if size < self._size:
            images = np.concatenate([images, np.zeros((self._size - size, *images.shape[1:]), images.dtype)])
        return self._session.run(None, {'data': images})[0][:size]

    def _open(self, size):
        import onnxruntime

        # Two at a time would need twice the memory.
        self._session, self._size = None, size
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = LOG_SEVERITY
        options.add_free_dimension_override_by_name('N', size)
        self._session = onnxruntime.InferenceSession(self._model, options, providers=['CPUExecutionProvider'])
