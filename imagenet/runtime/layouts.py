"""Memory layouts of images: channels first or last."""

LAYOUTS = ('NCHW', 'NHWC')


def change_layout(F, x, source, target):
    """Transpose images from one layout to another. Return `x` itself if the layouts are the same."""
    if source == target:
        return x
    return F.transpose(x, axes=(0, 2, 3, 1) if target == 'NHWC' else (0, 3, 1, 2))


def height_and_width(shape, layout):
    """Return the height and width of images, given the shape of a batch `(N, C, H, W)` or `(N, H, W, C)`."""
    return shape[2:] if layout == 'NCHW' else shape[1:3]
