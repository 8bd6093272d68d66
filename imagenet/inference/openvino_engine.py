"""OpenVINO as an engine; see engines.py."""

import numpy as np


class OpenVinoEngine:
    """An ONNX file that OpenVINO computes on the CPU.

    Args:
        model: the bytes of the file.
        threads: the number of threads that compute.
        dtype: the precision, one of `DTYPES`.

    Attributes:
        version: its name and version.
    """

    DTYPES = ('float32', 'bfloat16')

    def __init__(self, model, threads, dtype='float32'):
        import openvino

        self.version = f'OpenVINO {openvino.__version__.split("-")[0]}'
        settings = {
            # By default, float32 is computed as bfloat16 if the processor has it.
            'INFERENCE_PRECISION_HINT': {'float32': 'f32', 'bfloat16': 'bf16'}[dtype],
            'PERFORMANCE_HINT': 'LATENCY',
            'INFERENCE_NUM_THREADS': threads,
            # The cores of this process may be a share of the machine's, and images are decoded on the same ones.
            'ENABLE_CPU_PINNING': False,
        }
        core = openvino.Core()
        # The batch size stays dynamic: fixed shapes gain nothing, and the last batch of many is smaller.
        self._network = core.compile_model(core.read_model(model), 'CPU', settings)
        # A new request allocates its memory in its first batch: of 32 images in int8, that takes a third of the time.
        self._idle = []

    def start(self, images):
        """Start to compute the logits of images `(N, 3, H, W)`; return a function that waits for them."""
        request = self._idle.pop() if self._idle else self._network.create_infer_request()
        request.start_async([images], share_inputs=True)

        def wait():
            request.wait()
            logits = request.get_output_tensor().data.astype(np.float32)
            self._idle.append(request)
            return logits

        return wait
