"""HTML that is escaped by construction: only what `element` returns is HTML; every other text is shown as it is."""

import base64
import html

from imagenet.common.text import printable


class Html(str):
    """Text that is HTML."""


def element(name, *children, **attributes):
    """Return an HTML element.

    Args:
        children: `Html`, or anything else, which is shown as text.
        attributes: `class_` is written as class and `data_x` as data-x. True stands for an attribute without a value;
            an attribute that is False or None is left out.
    """
    written = ''.join(
        _attribute(key, value) for key, value in attributes.items() if value is not None and value is not False
    )
    return Html(f'<{name}{written}>{fragment(*children)}</{name}>')


def png_image(content, description):
    """Return an image that is part of the page.

    Args:
        content: the bytes of a PNG file.
        description: what it shows, for those who do not see it.
    """
    source = f'data:image/png;base64,{base64.b64encode(content).decode()}'
    return Html(f'<img{_attribute("src", source)}{_attribute("alt", description)}>')


def fragment(*children):
    """Return the children, one after the other, as HTML."""
    return Html(''.join(child if isinstance(child, Html) else html.escape(printable(child)) for child in children))


def _attribute(key, value):
    key = key.rstrip('_').replace('_', '-')
    return f' {key}' if value is True else f' {key}="{html.escape(printable(value))}"'


def table(header, rows, **attributes):
    """Return a table in a box, in which it scrolls if it is too large.

    Args:
        header: what the cells of the first row contain.
        rows: the other rows, from `table_row`.
    """
    head = element('thead', element('tr', *(element('th', content, scope='col') for content in header)))
    return element('div', element('table', head, element('tbody', *rows), **attributes), class_='scrolls', tabindex=0)


def table_row(cells, **attributes):
    """Return a row of a table.

    Args:
        cells: the row's name, then what the other cells contain. `Html` is a complete cell.
    """
    name, *others = cells
    complete = (cell if isinstance(cell, Html) else element('td', cell) for cell in others)
    return element('tr', element('th', name, scope='row'), *complete, **attributes)
