"""The JSON that describes an exported or quantized network."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class NetworkDescription:
    """What a graph is of; an int8 network has to be loaded with the options that it was made with."""

    arch: str
    num_layers: int
    num_groups: int
    num_classes: int
    batchnorm_eps: float
    image_shape: tuple
    input_layout: str

    def as_json(self):
        return {**asdict(self), 'image_shape': list(self.image_shape)}


def describe_input(layout, evaluation, names):
    """Return what a program must know to run an exported graph: how an image becomes its input, what its output means.

    Args:
        layout: 'NCHW' or 'NHWC'.
        evaluation: `EvaluationOptions`.
        names: of the classes.
    """
    return {
        'input': {
            'name': 'data',
            'dtype': 'float32',
            'layout': layout,
            'channels': 'red, green, blue' + ', 0' * (evaluation.image_shape[0] - 3),
            'shorter_side': evaluation.data_val_resize,
            'centre_crop': list(evaluation.image_shape[1:]),
            'values': '(0 to 255 - mean) / std',
            'mean': list(evaluation.rgb_mean),
            'std': list(evaluation.rgb_std),
        },
        'output': 'logits, one for each class',
        'classes': names,
    }
