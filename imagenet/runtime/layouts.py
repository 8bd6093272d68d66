"""Memory layouts of images: channels first or last."""

LAYOUTS = ('NCHW', 'NHWC')


def change_layout(F, x, source, target):
    """Transpose images from one layout to another. Return `x` itself if the layouts are the same."""
    if source == target:
        return x
    return F.transpose(x, axes=(0, 2, 3, 1) if target == 'NHWC' else (0, 3, 1, 2))
