// Everything that can be pointed at: the masks of the label and those of the branches, and what is said of each.

function text3(value) {
  return value === null || value === undefined ? "–" : value.toFixed(3);
}

// page: with `codes`, the run-length codes. Items: {kind, place, branch, mask, pieces, area, rgb, row or candidate}
function itemsOf(page) {
  const pieces = new Map();
  const piecesOfMask = (mask) => {
    if (!pieces.has(mask)) pieces.set(mask, piecesOf(page.codes[mask], page.height));
    return pieces.get(mask);
  };
  const make = (kind, place, mask, branch, area, more) => ({
    kind, place, mask, branch, area, rgb: rgbOfHue(hueOf(place)), ...more,
    get pieces() {
      return piecesOfMask(mask);
    },
  });
  const label = page.label.map((row, k) => make("label", k, row.mask, row.branch, row.area, { row }));
  const c = page.candidates;
  const candidates = c
    ? c.area.map((area, k) => make("candidate", k, c.mask[k], c.branch[k], area, { file: c.file[k], id: c.id[k] }))
    : [];
  const lost = new Map(page.suppressed.map((s) => [`${s.branch} ${s.id}`, s]));
  const ofLabel = new Map(page.label.map((row, k) => [row.candidate, label[k]]));
  for (const item of candidates) {
    item.loss = lost.get(`${item.branch} ${item.id}`) ?? null;
    item.labelled = ofLabel.get(item.place) ?? null;
  }
  return { label, candidates, piecesOfCandidate: (k) => piecesOfMask(c.mask[k]) };
}

function nameOf(item) {
  return item.kind === "label" ? `label mask ${item.row.id}` : `${item.branch} mask ${item.id}`;
}

function whyGone(loss) {
  const to = loss.by === null ? "" : ` of label mask ${loss.by} (IoU ${text3(loss.iou)})`;
  return `${loss.reason || "suppressed"}${to}`;
}

function describe(page, item) {
  const parts = [nameOf(item)];
  if (item.kind === "label") {
    const { row } = item;
    parts.push(`of ${row.branch}`, `score ${text3(row.score)}`, `quality ${text3(row.quality)}${row.known ? "" : " (unknown to the predictor)"}`);
    if (row.votes.length) parts.push(`votes ${row.votes.join(", ")}`);
    if (row.frame !== null) parts.push(`frame ${row.frame}`);
    if (row.name !== null) parts.push(`class ${row.name}`);
  } else {
    const c = page.candidates;
    parts.push(`score ${text3(c.score[item.place])}`, `quality ${text3(c.expected[item.place])}`);
    if (c.frame[item.place] !== null) parts.push(`frame ${c.frame[item.place]}`);
    if (c.name[item.place] !== null) parts.push(`class ${c.name[item.place]}`);
    if (item.labelled) parts.push(`is label mask ${item.labelled.row.id}`);
    if (item.loss) parts.push(`not in the label: ${whyGone(item.loss)}`);
  }
  parts.push(`${item.area} px`);
  return parts.join(" · ");
}

// The smallest of some items at a pixel
function topmost(items, x, y) {
  let best = null;
  for (const item of items) {
    if ((best === null || item.area < best.area) && contains(item.pieces, x, y)) best = item;
  }
  return best;
}
