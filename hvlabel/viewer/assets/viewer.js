// The page of one image: what is shown, what is selected, and what keys and buttons do.
const PER_PAGE = 60; // rows of a table in the document
const byId = (id) => document.getElementById(id);
let viewer = null; // for the console

async function openPage() {
  const page = JSON.parse(byId("data").textContent);
  page.codes = await unpackedLines(page.masks);
  if (page.candidates) page.neighbours = neighboursOf(page.candidates, await unpacked(page.candidates.pairs));
  const items = itemsOf(page);
  page.piecesOfCandidate = items.piecesOfCandidate;
  const [mean, deviation] = await Promise.all([unpacked(page.spectra.mean), unpacked(page.spectra.deviation)]);
  return { page, items, cube: await openCube(page), mean, deviation };
}

// {values, deviation} of a mask, from all pixels of the cube; null: not on this page
function spectrumOfMask({ page, mean, deviation }, mask) {
  if (!page.spectra.has[mask]) return null;
  const n = page.bands.length;
  const own = (array, offset) => Float64Array.from(array.subarray(mask * n, (mask + 1) * n), (v) => offset + v * page.spectra.step);
  return { values: own(mean, page.spectra.low), deviation: own(deviation, 0) };
}

function exactnessOf(page) {
  const { cube } = page;
  const means = "Means and deviations of masks: from all pixels of the cube.";
  if (cube.kind !== "components") return `Spectra of pixels: exact. ${means}`;
  const thinned = cube.stride_px > 1 ? `one pixel of ${cube.stride_px} × ${cube.stride_px} is on this page; ` : "";
  const error = (value) => `${shortNumber(value)} (${((100 * value) / (cube.value_range || 1)).toFixed(2)} % of the range)`;
  return (
    `Spectra of pixels: ${thinned}${cube.values.length} components, largest error of any value ` +
    `${error(cube.largest_error)}, usual error ${error(cube.usual_error)}. ${means}`
  );
}

function buildLayers(view) {
  const { page, items } = view;
  const box = byId("layers");
  const layers = new Map();
  const add = (name, text, key, itemsNow, isOn = false) => {
    const label = document.createElement("label");
    const tick = document.createElement("input");
    Object.assign(tick, { type: "checkbox", checked: isOn });
    tick.dataset.layer = name;
    tick.addEventListener("change", () => view.draw());
    label.append(tick, ` ${text} `);
    const hint = document.createElement("kbd");
    hint.textContent = key;
    label.append(hint);
    box.append(label);
    layers.set(key, { name, tick, itemsNow });
  };
  const isRejected = (item) => view.decisions.verdicts.get(item.row.id) === "reject";
  const drawn = (item) => (isRejected(item) ? { ...item, pieces: item.pieces, rgb: RED, hollow: true } : item);
  add("label", `label (${items.label.length})`, "l", () => items.label.map(drawn), true);
  if (!page.candidates) return layers;
  page.branches.forEach((branch, file) => {
    const own = items.candidates.filter((item) => item.file === file);
    add(branch, `${branch} (${own.length})`, String(file + 1), () => own);
  });
  const lost = items.candidates.filter((item) => item.loss);
  add("suppressed", `suppressed (${lost.length})`, "x", () => lost);
  const coloured = (k, rgb) => ({ ...items.candidates[k], pieces: items.candidates[k].pieces, rgb });
  add("changes", "what the fusion would change", "c", () => [
    ...view.changes.lost.map((k) => coloured(k, RED)),
    ...view.changes.added.map((k) => coloured(k, GREEN)),
  ]);
  return layers;
}

function buildPictures(view) {
  const { page } = view;
  const choice = byId("picture");
  const options = [
    ...page.pictures.map((p) => ({ title: p.title, source: p.source })),
    ...page.triplets.map((t) => ({ title: t.title, bands: t.bands })),
    { title: "three bands of your choice", bands: null },
  ];
  options.forEach(({ title }, k) => choice.add(new Option(title, k)));
  const sliders = [...document.querySelectorAll("#bands input")];
  const n = page.bands.length;
  sliders.forEach((slider, k) => {
    slider.max = n - 1;
    slider.value = Math.round(((5 - 2 * k) / 6) * (n - 1)); // the longest third is red
    slider.addEventListener("input", () => choose(options.length - 1));
  });
  async function choose(k) {
    choice.value = k;
    const option = options[k];
    if (option.bands) sliders.forEach((slider, c) => (slider.value = option.bands[c]));
    byId("bands").hidden = option.source !== undefined;
    for (const slider of sliders) {
      const place = Number(slider.value);
      slider.nextElementSibling.value = `${shortNumber(page.wavelengths_nm[place])} nm (${page.bands[place]})`;
    }
    if (option.source) await paintPicture(byId("base"), option.source);
    else paintBands(byId("base"), view.cube, sliders.map((s) => Number(s.value)), page.view_stride);
  }
  choice.addEventListener("change", () => choose(Number(choice.value)));
  return { choose, next: () => choose((Number(choice.value) + 1) % options.length) };
}

function showSpectra(view) {
  const { page, cube, pixel, selected, pinned } = view;
  const series = [];
  const addMask = (item, css, what) => {
    const own = item && spectrumOfMask(view, item.mask);
    if (item) series.push({ css, name: `${nameOf(item)}, mean ± deviation${what}`, values: own && own.values, deviation: own && own.deviation });
  };
  addMask(pinned, "pinned", " (pinned)");
  if (selected !== pinned) addMask(selected, "mask", "");
  if (pixel) {
    const spectrum = cube.spectrumAt(pixel.x, pixel.y);
    series.push({ css: "pixel", name: `pixel x ${spectrum.x}, y ${spectrum.y}`, values: spectrum.values, deviation: null });
  }
  view.series = series;
  drawSpectra(byId("plot"), page.wavelengths_nm, series, page.unit);
  const entries = series.map(({ css, name, values }) => {
    const entry = document.createElement("li");
    const chip = document.createElement("span");
    chip.className = `chip ${css}`;
    entry.append(chip, values === null ? `${name}: not on this page` : name);
    return entry;
  });
  byId("legend").replaceChildren(...entries);
}

function buildList(view) {
  const { page, items } = view;
  const table = pagedRows(document.querySelector("#masks tbody"), byId("masks-pager"), PER_PAGE, rowOf);
  const itemOfId = new Map(items.label.map((item) => [item.row.id, item]));
  function rowOf(id, position) {
    const item = itemOfId.get(id);
    const { row } = item;
    const verdict = view.decisions.verdicts.get(id) ?? "";
    const line = document.createElement("tr");
    line.className = `${verdict} ${view.selected === item ? "is-selected" : ""}`;
    const name = document.createElement("span");
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = `rgb(${item.rgb})`;
    name.append(swatch, String(id));
    const buttons = document.createElement("span");
    for (const [text, what, label] of [["✓", "accept", "accept"], ["✗", "reject", "reject"], ["✎", "redraw", "to be redrawn"]]) {
      const button = buttonOf(text, `${label}: mask ${id}`, () => view.decide(what, item));
      button.classList.toggle("on", verdict === what);
      button.setAttribute("aria-pressed", verdict === what);
      buttons.append(button);
    }
    buttons.append(buttonOf("↑", `earlier: mask ${id}`, () => view.move(-1, item)), buttonOf("↓", `later: mask ${id}`, () => view.move(1, item)));
    line.append(
      cellOf(position + 1), cellOf(name), cellOf(row.branch, "l"), cellOf(row.votes.join(", "), "l votes"),
      cellOf(text3(row.score)), cellOf(text3(row.quality)), cellOf(row.area), cellOf(buttons, "l"));
    return selectable(line, () => view.select(item));
  }
  return {
    show() {
      // rows are made anew: the button that was pressed keeps the keyboard
      const pressed = document.activeElement.getAttribute("aria-label");
      table.show(view.decisions.order);
      if (pressed) document.querySelector(`#masks button[aria-label="${CSS.escape(pressed)}"]`)?.focus();
      const count = (verdict) => [...view.decisions.verdicts.values()].filter((v) => v === verdict).length;
      const n = page.label.length;
      byId("progress").textContent =
        `${n} masks: ${count("accept")} accepted, ${count("reject")} rejected, ${count("redraw")} to be redrawn, ` +
        `${n - view.decisions.verdicts.size} undecided.`;
    },
    showItem: (item) => table.showItem(view.decisions.order.indexOf(item.row.id)),
  };
}

function buildSuppressed(view) {
  const { page, items } = view;
  const byKey = new Map(items.candidates.map((item) => [`${item.branch} ${item.id}`, item]));
  const table = pagedRows(document.querySelector("#suppressed tbody"), byId("suppressed-pager"), PER_PAGE, (loss) => {
    const row = document.createElement("tr");
    row.append(
      cellOf(`${loss.branch} mask ${loss.id}`, "l"), cellOf(loss.reason || "–", "l"), cellOf(loss.by ?? "–"),
      cellOf(text3(loss.iou)), cellOf(text3(loss.quality)));
    const item = byKey.get(`${loss.branch} ${loss.id}`);
    return item ? selectable(row, () => view.select(item)) : row;
  });
  byId("suppressed-title").textContent = `Suppressed: ${page.suppressed.length} masks of the branches`;
  table.show(page.suppressed);
}

function buildPointer(view) {
  const { page } = view;
  const overlay = byId("overlay");
  const cursor = byId("cursor");
  const under = (event) => {
    const box = overlay.getBoundingClientRect();
    const place = (at, size) => Math.min(size - 1, Math.max(0, Math.floor(at * size)));
    return { x: place((event.clientX - box.left) / box.width, page.width), y: place((event.clientY - box.top) / box.height, page.height) };
  };
  const maskAt = ({ x, y }) => topmost(view.shown(), x, y);
  const tell = (at) => {
    const item = maskAt(at);
    byId("readout").textContent = `x ${at.x}, y ${at.y}: ${item ? describe(page, originalOf(view, item)) : "no mask shown here"}`;
  };
  const take = (at) => {
    view.pixel = at;
    cursor.hidden = false;
    cursor.style.left = `${((at.x + 0.5) / page.width) * 100}%`;
    cursor.style.top = `${((at.y + 0.5) / page.height) * 100}%`;
    tell(at);
    const item = maskAt(at);
    view.select(item ? originalOf(view, item) : null);
  };
  overlay.addEventListener("pointermove", (event) => tell(under(event)));
  overlay.addEventListener("click", (event) => take(under(event)));
  overlay.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 10 : 1;
    const [dx, dy] = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step], Enter: [0, 0] }[event.key] ?? [];
    if (dx === undefined) return;
    event.preventDefault();
    const { x, y } = view.pixel ?? { x: page.width >> 1, y: page.height >> 1 };
    take({ x: Math.min(page.width - 1, Math.max(0, x + dx)), y: Math.min(page.height - 1, Math.max(0, y + dy)) });
  });
}

// What is drawn may be a coloured copy of an item
function originalOf({ items }, item) {
  return item.kind === "label" ? items.label[item.place] : items.candidates[item.place];
}
