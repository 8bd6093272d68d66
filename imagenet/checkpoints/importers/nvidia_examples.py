"""Parameter names of NVIDIA's ResNet-50 example for MXNet, the original of this package."""

# What names of this package or its original contain, and no other package's.
OWN_PARTS = ('.bn_add_relu.', '.shortcut.0.')


def is_own(names):
    """Return whether an array of a file has a name that only this package and its original use."""
    return any(name.startswith('_net.') or any(part in name for part in OWN_PARTS) for name in names)


def canonical_name(name, expected):
    """Return the canonical name of an array of the original."""
    name = name[len('_net.') :] if name.startswith('_net.') else name
    *place, leaf = name.replace('.bn.', '.').split('.')
    candidates = ('.'.join((*place, leaf)), '.'.join((*place[:-1], leaf)))
    return next((candidate for candidate in candidates if candidate in expected), name)


def describe_original(names):
    """Return what the names in a file of the original show about its network, in the form of `read_description`.

    Its Xception pads the first two convolutions, unlike the paper's.
    """
    is_original = any(name.startswith('_net.') or name == 'features.1.0.gamma' for name in names)
    is_xception = any(name.endswith('features.4.shortcut.0.weight') for name in names)
    return {'arch': 'xception_padded'} if is_original and is_xception else {}
