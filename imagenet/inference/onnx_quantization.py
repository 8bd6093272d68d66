"""Int8 networks for ONNX Runtime and OpenVINO: ONNX files with QuantizeLinear and DequantizeLinear around each layer.

ONNX Runtime's quantization tool makes them: activations have one scale and zero point each, weights one scale per
output channel, as in ONNX Runtime's documentation, "Quantize ONNX Models".
"""

import io
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

from imagenet.inference.onnxruntime_engine import OnnxRuntimeEngine
from imagenet.runtime.threads import computing_threads, run_on_all_cores

# The package that makes the files for all engines.
QUANTIZER = 'onnxruntime'
# Values of `--calib-mode`, and ONNX Runtime's names for them.
METHODS = {'minmax': 'MinMax', 'entropy': 'Entropy'}
LAYER_OPERATORS = ('Conv', 'Gemm')
# What ONNX Runtime adds to the name of a weight that includes batch norm.
FUSED = 'ConvBnFusion_W_'
# Without these, the result of a layer would return to float32 before the next one. ReLU and ReLU6 (Clip) disappear: the
# unsigned integers end where they do.
BETWEEN_LAYERS = ('Relu', 'Clip', 'Add', 'MaxPool', 'AveragePool', 'GlobalAveragePool', 'Flatten')


class OnnxQuantizer:
    """Makes int8 ONNX files from a float32 one.

    Args:
        model: the bytes of the float32 file, whose input is `data`.
        canonical: the canonical names of the weights, by their names in the file.
        calib_mode: one of `METHODS`.
        batches: the calibration images, MXNet's arrays `(N, 3, H, W)`.

    Attributes:
        layers: the layers that can run in int8 or float32, as the canonical names of their weights, in graph order.
    """

    def __init__(self, model, canonical, calib_mode, batches):
        import onnx
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process

        run_on_all_cores()
        operators = [*LAYER_OPERATORS, *BETWEEN_LAYERS]
        with tempfile.TemporaryDirectory() as folder:
            given, prepared, augmented = (str(Path(folder) / f'{name}.onnx') for name in ('given', 'prepared', 'all'))
            Path(given).write_bytes(model)
            # Batch norm becomes part of the convolutions.
            quant_pre_process(given, prepared, skip_symbolic_shape=True)
            calibrator = quantization.create_calibrator(
                prepared,
                operators,
                augmented_model_path=augmented,
                calibrate_method=quantization.CalibrationMethod[METHODS[calib_mode]],
            )
            # One batch at a time: otherwise all activations for all images would be in memory.
            with redirect_stdout(io.StringIO()):
                for batch in batches:
                    calibrator.collect_data(_one_batch(batch.asnumpy()))
                self._ranges = calibrator.compute_data()
            network = onnx.load(prepared)
        for node in network.graph.node:
            # ONNX Runtime leaves some names empty, but layers in float32 are chosen by name.
            node.name = node.output[0]
        self._prepared = network.SerializeToString()
        self._operators = operators
        weights = {node.name: node.input[1] for node in network.graph.node if node.op_type in LAYER_OPERATORS}
        self._nodes = {canonical.get(weight.replace(FUSED, ''), weight): name for name, weight in weights.items()}
        self.layers = list(self._nodes)

    def _nodes_in_float32(self, network, layers):
        """Return the nodes of these layers and those that only follow them, where int8 gains nothing."""
        found, producers = {self._nodes[name] for name in layers}, {node.name for node in network.graph.node}
        for node in network.graph.node:
            sources = producers.intersection(node.input)
            if node.op_type not in LAYER_OPERATORS and sources and found.issuperset(sources):
                found.add(node.name)
        return sorted(found)

    def quantize(self, in_float32):
        """Return the bytes of the int8 file, with these layers in float32."""
        import onnx
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        network = onnx.load_model_from_string(self._prepared)
        quantizer = QDQQuantizer(
            network,
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=self._nodes_in_float32(network, in_float32),
            op_types_to_quantize=self._operators,
            extra_options={},
        )
        quantizer.quantize_model()
        return quantizer.model.model.SerializeToString(deterministic=True)

    def runner(self, in_float32):
        """Return a function from images to logits, which computes with these layers in float32."""
        engine = OnnxRuntimeEngine(self.quantize(in_float32), computing_threads())
        return lambda batch: engine.start(batch.asnumpy())()


def _one_batch(images):
    """Return a reader of calibration data, as ONNX Runtime asks for it, with one batch."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self):
            self._batches = iter([{'data': np.ascontiguousarray(images)}])

        def get_next(self):
            return next(self._batches, None)

    return Reader()
