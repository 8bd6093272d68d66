"""The JSON that describes an exported or quantized network."""

from dataclasses import asdict, dataclass

from imagenet.checkpoints.description import INTERPOLATION_BEFORE, PADDING_BEFORE
from imagenet.input_pipeline.interpolation import FILTERS


@dataclass(frozen=True)
class NetworkDescription:
    """The options that define a graph. An int8 network must be loaded with the options that it was made with."""

    arch: str
    num_layers: int
    num_groups: int
    num_classes: int
    padding: str
    batchnorm_eps: float
    image_shape: tuple
    input_layout: str

    def as_json(self):
        return {**asdict(self), 'image_shape': list(self.image_shape)}


def describe_input(layout, evaluation, names):
    """Return the facts needed to run an exported graph: how to prepare an image, and what the output means.

    Args:
        layout: 'NCHW' or 'NHWC'.
        evaluation: `EvaluationOptions`.
        names: names of the classes.
    """
    return {
        'input': {
            'name': 'data',
            'dtype': 'float32',
            'layout': layout,
            'channels': 'red, green, blue' + ', 0' * (evaluation.image_shape[0] - 3),
            'shorter_side': evaluation.data_val_resize,
            'centre_crop': list(evaluation.image_shape[1:]),
            'interpolation': evaluation.interpolation,
            'antialiased': FILTERS[evaluation.interpolation].is_antialiased,
            'values': '(0 to 255 - mean) / std',
            'mean': list(evaluation.rgb_mean),
            'std': list(evaluation.rgb_std),
        },
        'output': 'logits, one for each class',
        'classes': names,
    }


def described_options(description):
    """Return the options that the JSON of an exported or quantized network gives, as `read_description` does."""
    network, image = description['network'], description['input']
    graph = {name: value for name, value in network.items() if name != 'input_layout'}
    return {
        'padding': PADDING_BEFORE,
        **graph,
        'image_shape': tuple(network['image_shape']),
        'data_val_resize': image['shorter_side'],
        'interpolation': image.get('interpolation', INTERPOLATION_BEFORE),
        'rgb_mean': tuple(image['mean']),
        'rgb_std': tuple(image['std']),
        'classes': description['classes'],
    }
