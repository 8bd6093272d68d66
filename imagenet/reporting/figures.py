"""Shared by all figures: matplotlib without a window, and saving."""

from pathlib import Path

from imagenet.common.errors import UserError
from imagenet.common.files import write_atomically
from imagenet.common.text import printable, shortened


def import_pyplot():
    """Return `matplotlib.pyplot` for figures in files. The import takes a second, so call this only to draw."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot

    return matplotlib.pyplot


def as_label(text, limit=200):
    """Return text for a figure, in which text between dollar signs would be a formula; `limit` is its length."""
    return shortened(printable(text), limit).replace('$', r'\$')


def save_figure(figure, path, option, dots_per_inch=100):
    """Write a figure to a file in the format of the file's extension, and free its memory.

    Args:
        option: the option that names the file, for error messages.

    Raises:
        UserError: the file cannot be written, or its extension is unknown.
    """
    settings = {'format': Path(path).suffix[1:] or 'png', 'dpi': dots_per_inch}
    try:
        write_atomically(path, lambda temporary: figure.savefig(temporary, **settings))
    except (ValueError, RuntimeError, ImportError) as error:
        raise UserError(f'{option} {path}: cannot write this picture ({error})') from None
    finally:
        import_pyplot().close(figure)
