"""ONNX Runtime as an engine; see engines.py."""

from concurrent.futures import ThreadPoolExecutor

# Only errors: warnings are about nodes of the graph.
LOG_SEVERITY = 3


class OnnxRuntimeEngine:
    """An ONNX file that ONNX Runtime computes on the CPU.

    Args:
        model: the bytes of the file, whose input is `data`.
        threads: the number of threads that compute.
        dtype: the precision, one of `DTYPES`.

    Attributes:
        version: its name and version.
    """

    DTYPES = ('float32',)

    def __init__(self, model, threads, dtype='float32'):
        import onnxruntime

        self.version = f'ONNX Runtime {onnxruntime.__version__}'
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = LOG_SEVERITY
        self._session = onnxruntime.InferenceSession(model, options, providers=['CPUExecutionProvider'])
        # `InferenceSession.run_async` fails if there is only one thread.
        self._caller = ThreadPoolExecutor(1, thread_name_prefix='onnxruntime')

    def start(self, images):
        """Start to compute the logits of images `(N, 3, H, W)`; return a function that waits for them."""
        return self._caller.submit(lambda: self._session.run(None, {'data': images})[0]).result
