"""OpenVINO as an engine; see engines.py."""


class OpenVinoEngine:
    """An ONNX file that OpenVINO computes on the CPU.

    Args:
        model: the bytes of the file.
        threads: the number of threads that compute.

    Attributes:
        version: its name and version.
    """

    def __init__(self, model, threads):
        import openvino

        self.version = f'OpenVINO {openvino.__version__.split("-")[0]}'
        settings = {
            # By default, float32 is computed as bfloat16 if the processor has it.
            'INFERENCE_PRECISION_HINT': 'f32',
            'PERFORMANCE_HINT': 'LATENCY',
            'INFERENCE_NUM_THREADS': threads,
            # The cores of this process may be a share of the machine's, and images are decoded on the same ones.
            'ENABLE_CPU_PINNING': False,
        }
        core = openvino.Core()
        # The batch size stays dynamic: fixed shapes gain nothing, and the last batch of many is smaller.
        self._network = core.compile_model(core.read_model(model), 'CPU', settings)

    def start(self, images):
        """Start to compute the logits of images `(N, 3, H, W)`; return a function that waits for them."""
        request = self._network.create_infer_request()
        request.start_async([images], share_inputs=True)

        def wait():
            request.wait()
            return request.get_output_tensor().data.copy()

        return wait
