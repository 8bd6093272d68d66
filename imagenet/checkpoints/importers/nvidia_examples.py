"""Parameter names of NVIDIA's ResNet-50 example for MXNet, the original of this package."""


def _canonical_name(name, expected):
    name = name[len('_net.') :] if name.startswith('_net.') else name
    *place, leaf = name.replace('.bn.', '.').split('.')
    candidates = ('.'.join((*place, leaf)), '.'.join((*place[:-1], leaf)))
    return next((candidate for candidate in candidates if candidate in expected), name)
