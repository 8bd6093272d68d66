// Draws the charts into their figures. The mark is for measurements of how long that takes.
const charts = JSON.parse(document.getElementById('charts').textContent);
const tooltip = document.getElementById('tooltip');
const FAR_FROM_POINTER = 16;

function make(name, className, ...children) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...children);
  return made;
}

function pointsOf(lines) {
  return lines.flatMap(({values}, line) => values.map((value, index) => ({epoch: index + 1, value, line})));
}

function asText(value) {
  return String(Number(value.toPrecision(5)));
}

// The pattern of a line as a background, since its lengths differ from a border's.
function swatch({color, dash: [stroke, gap]}) {
  const made = make('i', '');
  made.style.background = `repeating-linear-gradient(90deg, ${color} 0 ${stroke}px, transparent 0 ${stroke + gap}px)`;
  return made;
}

function showTooltip(lines, epoch, {clientX, clientY}) {
  const names = ({run, metric}) => (lines.some((line) => line.run !== lines[0].run) ? `${run}, ${metric}` : metric);
  const rows = lines
    .filter(({values}) => epoch <= values.length)
    .map((line) => make('p', '', swatch(line), make('span', '', names(line)), make('b', '', asText(line.values[epoch - 1]))));
  tooltip.replaceChildren(make('p', 'epoch', `epoch ${epoch}`), ...rows);
  tooltip.hidden = false;
  const {width, height} = tooltip.getBoundingClientRect();
  const right = clientX + FAR_FROM_POINTER;
  const left = right + width < innerWidth ? right : clientX - FAR_FROM_POINTER - width;
  tooltip.style.left = `${Math.max(0, Math.min(left, innerWidth - width))}px`;
  tooltip.style.top = `${Math.max(0, Math.min(clientY + FAR_FROM_POINTER, innerHeight - height))}px`;
}

// Shows the values of the epoch that is nearest to the pointer.
function followPointer(view, lines, container) {
  const last = Math.max(...lines.map(({values}) => values.length));
  const hover = (epoch) => view.signal('hovered', epoch).runAsync();
  container.addEventListener('pointermove', (event) => {
    const left = container.getBoundingClientRect().x + view.origin()[0];
    const epoch = Math.round(view.scale('x').invert(event.clientX - left));
    const nearest = Math.min(Math.max(epoch, 1), last);
    hover(nearest);
    showTooltip(lines, nearest, event);
  });
  container.addEventListener('pointerleave', () => {
    hover(0);
    tooltip.hidden = true;
  });
}

async function draw({specification, lines}, container) {
  specification.data.find(({name}) => name === 'points').values = pointsOf(lines);
  const {view} = await vegaEmbed(container, specification, {mode: 'vega', renderer: 'svg', actions: false});
  followPointer(view, lines, container);
}

const containers = document.querySelectorAll('.chart');
Promise.all(charts.map((chart, index) => draw(chart, containers[index]))).then(() => {
  performance.mark('drawn');
});
