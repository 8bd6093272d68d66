"""The charts of an HTML page, drawn by Vega.

They are specified in Vega-Lite (https://vega.github.io/vega-lite/docs/spec.html) and compiled to Vega here, which saves
the browser time. A chart is an SVG picture whose axes have the color of the page's text, in the light and in the dark.
"""

import functools
from dataclasses import dataclass

from imagenet.common.program import check_memory_limit

# Okabe and Ito's palette, "Color Universal Design" (2008), which people with any color vision can tell apart. Its
# yellow is hard to see on white, and its black on black: they are left out.
COLORS = ('#0072b2', '#e69f00', '#009e73', '#d55e00', '#cc79a7', '#56b4e9')
# The lengths of strokes and gaps, in pixels, by phase.
DASHES = {'train': (1, 0), 'val': (6, 3), 'ema': (2, 2)}
# Above this, points would hide their line.
MOST_EPOCHS_WITH_POINTS = 40
SIGNIFICANT_DIGITS = 6
HEIGHT = 260
# V8, the JavaScript engine, reserves 64 GiB of addresses, but uses only a little of it.
LEAST_KILOBYTES = 72_000_000
# The variable of a chart for the epoch under the pointer.
HOVERED = 'hovered'
AXIS = {
    **{f'{part}Color': 'currentColor' for part in ('label', 'title', 'tick', 'domain', 'grid')},
    **{
        f'{part}Opacity': opacity
        for part, opacity in (('label', 0.75), ('title', 0.75), ('tick', 0.2), ('domain', 0.2))
    },
    'gridOpacity': 0.12,
    'titleFontWeight': 'normal',
    'labelFontSize': 11,
    'titleFontSize': 12,
}


@dataclass(frozen=True)
class Line:
    """A line of a chart: one value per epoch, and what distinguishes the line from the others.

    Attributes:
        run: name of the run.
        metric: such as 'val.top1'.
    """

    run: str
    metric: str
    color: str
    values: list

    @property
    def phase(self):
        return self.metric.split('.')[0]

    @property
    def dash(self):
        return DASHES[self.phase]


def color_of(number):
    """Return the color of a run, or of a metric, by its number. After the last color comes the first one again."""
    return COLORS[number % len(COLORS)]


@functools.lru_cache(maxsize=None)
def bundle_script(script):
    """Return a script together with Vega-Embed, Vega and Vega-Lite; it finds the first under the name `vegaEmbed`.

    This takes two seconds, so the result is kept.
    """
    return _import_vl_convert().javascript_bundle(script)


def _import_vl_convert():
    """Return `vl_convert`, which contains a JavaScript engine.

    Raises:
        UserError: the engine would abort, because the address space is limited.
    """
    check_memory_limit(LEAST_KILOBYTES)
    import vl_convert

    return vl_convert


def chart_data(title, label, lines):
    """Return the content of JSON from which the page's script draws lines over epochs.

    It consists of the `lines`, and of Vega's `specification` of everything else, which knows lines by their numbers.

    Args:
        title: of the chart, for people who do not see it.
        label: of the vertical axis. Speeds start at 0.
    """
    specification = {
        'description': f'{title} over epochs',
        'data': {'name': 'points'},
        'params': [{'name': HOVERED, 'value': 0}],
        'width': 'container',
        'height': HEIGHT,
        'encoding': {'x': _epoch_axis(lines)},
        'layer': _layers(label, lines),
        'config': {'background': None, 'view': {'stroke': None}, 'axis': AXIS, 'font': 'system-ui, sans-serif'},
    }
    return {
        'specification': _import_vl_convert().vegalite_to_vega(specification),
        'lines': [{**vars(line), 'dash': line.dash, 'values': _rounded(line.values)} for line in lines],
    }


def _epoch_axis(lines):
    last = max(len(line.values) for line in lines)
    return {
        'field': 'epoch',
        'type': 'quantitative',
        'title': 'epoch',
        'axis': {'format': 'd', 'tickMinStep': 1, 'grid': False},
        'scale': {'domain': [1, last], 'nice': False},
    }


def _value_axis(label, lines):
    # The ends are given because Vega would warn that it cannot find them among the points, of which there are none yet.
    values = [value for line in lines for value in line.values]
    least = 0 if label == 'images/s' else min(values)
    return {
        'field': 'value',
        'type': 'quantitative',
        'title': label,
        'scale': {'domain': [least, max(values)], 'nice': True, 'zero': False},
    }


def _layers(label, lines):
    """Return the lines; and at the epoch that the page's script has set, a rule, and points on the lines."""
    value = _value_axis(label, lines)
    color = _look([line.color for line in lines])
    dash = _look([list(line.dash) for line in lines])
    has_points = max(len(line.values) for line in lines) <= MOST_EPOCHS_WITH_POINTS
    of_one_epoch = {'filter': f'datum.epoch === {HOVERED}'}
    return [
        {
            'mark': {'type': 'line', 'strokeWidth': 1.75, 'point': {'size': 16} if has_points else False},
            'encoding': {'y': value, 'color': color, 'strokeDash': dash},
        },
        {
            'transform': [of_one_epoch, {'aggregate': [], 'groupby': ['epoch']}],
            'mark': {'type': 'rule', 'color': 'currentColor', 'opacity': 0.4},
        },
        {
            'transform': [of_one_epoch],
            'mark': {'type': 'point', 'filled': True, 'size': 50, 'opacity': 1},
            'encoding': {'y': value, 'color': color},
        },
    ]


def _look(values):
    """Return the encoding of a property that has one of these values for each line."""
    scale = {'domain': list(range(len(values))), 'range': values}
    return {'field': 'line', 'type': 'ordinal', 'scale': scale, 'legend': None}


def _rounded(values):
    return [float(f'{value:.{SIGNIFICANT_DIGITS}g}') for value in values]
