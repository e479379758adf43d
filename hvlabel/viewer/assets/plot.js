// Spectra over wavelength, drawn into an svg element of the page.
const PLOT = { width: 560, height: 300, left: 58, right: 12, top: 24, bottom: 40 };

// About five round numbers from low to high
function ticksBetween(low, high) {
  const rough = (high - low) / 5 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const ticks = [];
  for (let k = Math.ceil(low / step); k * step <= high + step * 1e-9; k++) ticks.push(k * step);
  return ticks;
}

function shortNumber(value) {
  return Number(value.toPrecision(4)).toString();
}

function childOf(parent, name, attributes, text) {
  const node = document.createElementNS(parent.namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}

// series: [{name, css, values, deviation}]; deviation may be null
function drawSpectra(svg, nm, series, unit) {
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${PLOT.width} ${PLOT.height}`);
  const shown = series.filter((s) => s.values !== null);
  const lows = shown.flatMap((s) => Array.from(s.values, (v, k) => v - (s.deviation ? s.deviation[k] : 0)));
  const highs = shown.flatMap((s) => Array.from(s.values, (v, k) => v + (s.deviation ? s.deviation[k] : 0)));
  const low = lows.length ? lows.reduce((a, b) => Math.min(a, b)) : 0;
  const high = highs.length ? highs.reduce((a, b) => Math.max(a, b)) : 1;
  const [first, last] = [nm[0], nm[nm.length - 1]];
  const spanX = last - first || 1;
  const spanY = high - low || 1;
  const innerX = PLOT.width - PLOT.left - PLOT.right;
  const innerY = PLOT.height - PLOT.top - PLOT.bottom;
  const xOf = (value) => PLOT.left + ((value - first) / spanX) * innerX;
  const yOf = (value) => PLOT.top + innerY - ((value - low) / spanY) * innerY;

  for (const tick of ticksBetween(low, low + spanY)) {
    childOf(svg, "line", { x1: PLOT.left, x2: PLOT.width - PLOT.right, y1: yOf(tick), y2: yOf(tick), class: "grid" });
    childOf(svg, "text", { x: PLOT.left - 6, y: yOf(tick) + 4, class: "tick end" }, shortNumber(tick));
  }
  for (const tick of ticksBetween(first, first + spanX)) {
    childOf(svg, "text", { x: xOf(tick), y: PLOT.height - 22, class: "tick middle" }, shortNumber(tick));
  }
  const middle = PLOT.left + innerX / 2;
  childOf(svg, "text", { x: middle, y: PLOT.height - 4, class: "tick middle" }, "wavelength, nm");
  childOf(svg, "text", { x: 6, y: 14, class: "tick" }, unit);

  for (const s of shown) {
    const at = (values) => Array.from(values, (v, k) => `${xOf(nm[k]).toFixed(1)},${yOf(v).toFixed(1)}`);
    if (s.deviation) {
      const above = at(s.values.map((v, k) => v + s.deviation[k]));
      const below = at(s.values.map((v, k) => v - s.deviation[k]));
      childOf(svg, "polygon", { points: [...above, ...below.reverse()].join(" "), class: `band ${s.css}` });
    }
    childOf(svg, "polyline", { points: at(s.values).join(" "), class: `line ${s.css}` });
    if (nm.length <= 40) {
      for (const point of at(s.values)) {
        const [cx, cy] = point.split(",");
        childOf(svg, "circle", { cx, cy, r: 2, class: `dot ${s.css}` });
      }
    }
  }
  const names = shown.map((s) => s.name).join("; ") || "no spectrum yet: click on the picture";
  svg.setAttribute("aria-label", `Spectra over wavelength: ${names}`);
}
