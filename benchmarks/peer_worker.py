"""Takes one turn of a peer for cpu_peers.py, in a separate process and in the peers' environment.

    peer_worker.py FOLDER ENGINE BATCH_SIZE STEPS SETTINGS

FOLDER contains the files that peer_network.py wrote, and receives the files that peers make from them. Prints JSON:
images/s over STEPS steps, and the relative difference of the logits from this package's.
"""

import json
import multiprocessing
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

CORES = int(os.environ['OMP_NUM_THREADS'])
MATRIX_SIZE, PRODUCTS = 4096, 10
PACE_MATRIX_SIZE, PACE_PRODUCTS = 2048, 8


def images_per_second(step, batch_size, steps):
    """Return images/s of the median step, after the same number of steps that do not count."""
    for _ in range(steps):
        step()
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return batch_size / float(np.median(seconds))


def made(folder, name):
    """Return the folder of the files that some peers compute from; if it is missing, another process makes it."""
    path = folder / name
    if not path.exists():
        partial = Path(tempfile.mkdtemp(dir=folder))
        with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as process:
            process.submit(MAKERS[name], folder, partial).result()
        partial.rename(path)
    return path


def make_onnx(folder, target):
    import peer_torch

    peer_torch.export(folder, target / 'network.onnx')


def make_openvino_int8(folder, target):
    import nncf
    import openvino

    net = openvino.Core().read_model(made(folder, 'onnx') / 'network.onnx')
    images = np.load(folder / 'images.npz')['calibration'][:, np.newaxis]
    net.reshape(images.shape[1:])
    # Activations after a ReLU are not symmetric; weights are.
    preset = nncf.QuantizationPreset.MIXED
    net = nncf.quantize(net, nncf.Dataset(images), preset=preset, subset_size=len(images))
    openvino.save_model(net, target / 'network.xml', compress_to_fp16=False)


def make_onnxruntime_int8(folder, target):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):
        def __init__(self, images):
            self.batches = iter(images[:, np.newaxis])

        def get_next(self):
            batch = next(self.batches, None)
            return None if batch is None else {'images': batch}

    quant_pre_process(made(folder, 'onnx') / 'network.onnx', target / 'prepared.onnx')
    quantize_static(
        target / 'prepared.onnx',
        target / 'network.onnx',
        Images(np.load(folder / 'images.npz')['calibration']),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


MAKERS = {'onnx': make_onnx, 'openvino-int8': make_openvino_int8, 'onnxruntime-int8': make_onnxruntime_int8}


def onnxruntime_inference(folder, images, source):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = CORES
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_free_dimension_override_by_name('batch', len(images))
    path = made(folder, source) / 'network.onnx'
    session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])

    def step():
        return session.run(None, {'images': images})[0]

    return step, step()


def openvino_inference(folder, images, source, file):
    import openvino

    core = openvino.Core()
    net = core.read_model(made(folder, source) / file)
    net.reshape(images.shape)
    # Without a hint, float32 is computed as bfloat16 if the processor supports it.
    settings = {'INFERENCE_PRECISION_HINT': 'f32', 'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_NUM_THREADS': CORES}
    request = core.compile_model(net, 'CPU', settings).create_infer_request()

    def step():
        return request.infer([images], share_inputs=True)[0]

    return step, step()


def torch_inference(folder, images, **settings):
    import peer_torch

    step = peer_torch.inference(folder, images, **settings)
    return step, step()


def torch_training(folder, images, **settings):
    import peer_torch

    return peer_torch.training(folder, images, **settings)


# Functions of (folder, images, settings) that return (a function that computes a step, logits to compare).
ENGINES = {
    'onnxruntime': onnxruntime_inference,
    'openvino': openvino_inference,
    'torch inference': torch_inference,
    'torch training': torch_training,
}


def take_turn(folder, engine, batch_size, steps, settings):
    example = np.load(folder / 'images.npz')
    images, expected = (np.ascontiguousarray(example[name][:batch_size]) for name in ('images', 'logits'))
    step, logits = ENGINES[engine](folder, images, **settings)
    difference = float(np.linalg.norm(logits - expected) / np.linalg.norm(expected))
    return {'ips': images_per_second(step, batch_size, steps), 'difference': difference}


def sgemm_limit(folder, passes):
    """Return images/s at the speed of the fastest of several large float32 matrix products.

    Args:
        passes: how many times an image takes the network's multiply-adds, of two operations each.
    """
    import torch

    left, right = torch.randn(2, MATRIX_SIZE, MATRIX_SIZE)
    seconds = []
    for _ in range(PRODUCTS):
        start = time.perf_counter()
        torch.mm(left, right)
        seconds.append(time.perf_counter() - start)
    multiply_adds = passes * json.loads((folder / 'network.json').read_text())['multiply_adds']
    return {'ips': MATRIX_SIZE**3 / min(seconds) / multiply_adds, 'difference': None}


def pace():
    """Return the machine's current speed in GFLOP/s, as the median of several float32 matrix products in NumPy."""
    left, right = np.random.default_rng(0).standard_normal((2, PACE_MATRIX_SIZE, PACE_MATRIX_SIZE), dtype=np.float32)
    seconds = []
    for _ in range(PACE_PRODUCTS):
        start = time.perf_counter()
        np.matmul(left, right)
        seconds.append(time.perf_counter() - start)
    return {'gflops': 2e-9 * PACE_MATRIX_SIZE**3 / float(np.median(seconds))}


def main():
    folder, engine, batch_size, steps, settings = sys.argv[1:]
    settings = json.loads(settings)
    if engine == 'pace':
        result = pace()
    elif engine == 'sgemm':
        result = sgemm_limit(Path(folder), **settings)
    else:
        result = take_turn(Path(folder), engine, int(batch_size), int(steps), settings)
    print(json.dumps(result))


if __name__ == '__main__':
    main()
