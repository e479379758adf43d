// Puts the page together and binds its keys.

function keysOf(view) {
  const layerKeys = [...view.layers].map(([key, { name, tick }]) => [
    key, `masks on and off: ${name}`, () => { tick.checked = !tick.checked; view.draw(); }]);
  const fill = byId("opacity");
  const fillBy = (step) => { fill.value = Number(fill.value) + step; view.draw(); };
  return [
    ["?", "this list", () => byId("help").showModal()],
    ["j", "next mask of the list", () => view.step(1)],
    ["k", "mask before", () => view.step(-1)],
    ["a", "accept the selected mask", () => view.decide("accept")],
    ["r", "reject it", () => view.decide("reject")],
    ["d", "mark it as to be redrawn", () => view.decide("redraw")],
    ["[", "move it to an earlier place", () => view.move(-1)],
    ["]", "move it to a later place", () => view.move(1)],
    ["p", "pin its spectrum, to compare with the next", () => view.pin()],
    ["s", "save the decisions as a file", () => saveDecisions(view.page, view.decisions)],
    ["v", "next picture", () => view.pictures.next()],
    ["z", "zoom", () => view.zoom()],
    ["+", "fill masks more", () => fillBy(0.1)],
    ["-", "fill masks less", () => fillBy(-0.1)],
    ["Escape", "select nothing", () => { view.pixel = null; byId("cursor").hidden = true; view.select(null); }],
    ...layerKeys,
  ];
}

function bindKeys(view) {
  const keys = keysOf(view);
  const acts = new Map(keys.map(([key, , act]) => [key, act]));
  for (const [key, text] of [...keys, ["arrows, Enter", "on the picture: move, and select what is there"]]) {
    const term = document.createElement("dt");
    const cap = document.createElement("kbd");
    cap.textContent = key;
    term.append(cap);
    const meaning = document.createElement("dd");
    meaning.textContent = text;
    byId("keys").append(term, meaning);
  }
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.matches("input[type=number], input[type=search], select, textarea");
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
    const act = acts.get(event.key);
    if (act === undefined) return;
    event.preventDefault();
    act();
  });
  byId("help-button").addEventListener("click", () => byId("help").showModal());
}

function bindButtons(view) {
  const buttons = [
    ["accept", "accept the selected mask (a)", () => view.decide("accept")],
    ["reject", "reject the selected mask (r)", () => view.decide("reject")],
    ["to be redrawn", "mark the selected mask as to be redrawn (d)", () => view.decide("redraw")],
    ["earlier", "move the selected mask to an earlier place ([)", () => view.move(-1)],
    ["later", "move the selected mask to a later place (])", () => view.move(1)],
    ["pin spectrum", "pin the spectrum of the selected mask (p)", () => view.pin()],
  ];
  byId("verdict-buttons").append(...buttons.map(([text, label, act]) => buttonOf(text, label, act)));
  byId("save").addEventListener("click", () => saveDecisions(view.page, view.decisions));
  byId("opacity").addEventListener("input", () => view.draw());
  byId("zoom").addEventListener("click", () => view.zoom());
}

function actionsOf(view) {
  const { page, items } = view;
  let zoom = 1;
  return {
    shown() {
      return [...view.layers.values()].filter(({ tick }) => tick.checked).flatMap(({ itemsNow }) => itemsNow());
    },
    draw() {
      paintMasks(byId("overlay"), view.shown(), page.view_stride, Number(byId("opacity").value), view.selected);
    },
    select(item) {
      view.selected = item;
      byId("selected").textContent = item ? describe(page, item) : "None. Click on one, or press j.";
      if (item && item.kind === "label") view.list.showItem(item);
      view.list.show();
      view.draw();
      showSpectra(view);
    },
    // of the label: where a mask of a branch is selected that is in the label, that one
    labelItem(item = view.selected) {
      if (!item) return null;
      return item.kind === "label" ? item : item.labelled;
    },
    decide(verdict, item) {
      const of = view.labelItem(item);
      if (!of) return;
      decide(view.decisions, of.row.id, verdict);
      view.keep();
    },
    move(by, item) {
      const of = view.labelItem(item);
      if (!of) return;
      moveMask(view.decisions, of.row.id, by);
      view.list.showItem(of);
      view.keep();
    },
    keep() {
      remember(page, view.decisions);
      view.list.show();
      view.draw();
    },
    step(by) {
      const { order } = view.decisions;
      if (!order.length) return;
      const of = view.labelItem();
      const at = of ? order.indexOf(of.row.id) + by : 0;
      const id = order[(at + order.length) % order.length];
      view.select(items.label.find((item) => item.row.id === id));
    },
    pin() {
      view.pinned = view.pinned === view.selected ? null : view.selected;
      showSpectra(view);
    },
    zoom() {
      zoom = zoom >= 4 ? 1 : 2 * zoom;
      byId("canvases").style.setProperty("--zoom", zoom);
      byId("zoom").textContent = `zoom ${zoom}×`;
    },
  };
}

async function start() {
  if (typeof DecompressionStream === "undefined") throw new Error("this browser is too old for this page (no DecompressionStream)");
  const view = await openPage();
  const { page, items } = view;
  Object.assign(view, { selected: null, pinned: null, pixel: null, changes: { kept: [], lost: [], added: [] } });
  Object.assign(view, actionsOf(view));
  view.decisions = remembered(page);
  for (const canvas of [byId("base"), byId("overlay")]) {
    canvas.width = Math.ceil(page.width / page.view_stride);
    canvas.height = Math.ceil(page.height / page.view_stride);
  }
  byId("canvases").style.setProperty("--ratio", page.width / page.height);
  const nm = page.wavelengths_nm;
  const centres = page.confidence && page.confidence !== "calibrated" ? ` (${page.confidence} centres)` : "";
  byId("facts").textContent =
    `${page.width} × ${page.height} px, ${nm.length} bands, ${shortNumber(nm[0])}–${shortNumber(nm[nm.length - 1])} nm${centres}; ` +
    `${page.label.length} masks in the label${page.corrected ? ", corrected by a person" : ""}, ${page.suppressed.length} suppressed; ` +
    `label ${page.seal.slice(0, 12)}`;
  byId("exactness").textContent = exactnessOf(page);
  byId("notes").replaceChildren(...page.notes.map((text) => {
    const note = document.createElement("p");
    note.className = "note";
    note.textContent = text;
    return note;
  }));
  view.pictures = buildPictures(view);
  view.layers = buildLayers(view);
  view.list = buildList(view);
  buildSuppressed(view);
  buildPointer(view);
  bindButtons(view);
  bindKeys(view);
  await view.pictures.choose(0);
  const redraw = (changes) => {
    view.changes = changes;
    const isChanged = changes.lost.length + changes.added.length > 0;
    if (view.layers.has("c")) view.layers.get("c").tick.checked = isChanged;
    view.draw();
  };
  view.live = liveFusion(page, items, redraw, (item) => view.select(item));
  view.select(null);
  viewer = view;
  document.documentElement.dataset.ready = "yes";
}

start().catch((error) => {
  byId("trouble").hidden = false;
  byId("trouble").textContent = `This page cannot be shown: ${error.message}`;
  throw error;
});
