// What a person decides about the masks of a label: kept, rejected, to be redrawn, and their order.
const VERDICTS = ["accept", "reject", "redraw"];

function newDecisions(page) {
  return { order: page.label.map((row) => row.id), verdicts: new Map() };
}

// The same verdict again takes it back
function decide(decisions, id, verdict) {
  if (decisions.verdicts.get(id) === verdict) decisions.verdicts.delete(id);
  else decisions.verdicts.set(id, verdict);
}

// by: how many places later; negative is earlier
function moveMask(decisions, id, by) {
  const { order } = decisions;
  const from = order.indexOf(id);
  const to = Math.min(order.length - 1, Math.max(0, from + by));
  order.splice(from, 1);
  order.splice(to, 0, id);
}

function decisionsFile(page, decisions) {
  const having = (verdict) => decisions.order.filter((id) => decisions.verdicts.get(id) === verdict);
  return {
    dataset: page.dataset,
    image: page.image,
    label_sha256: page.seal,
    order: decisions.order,
    accept: having("accept"),
    reject: having("reject"),
    redraw: having("redraw"),
  };
}

function saveDecisions(page, decisions) {
  const content = JSON.stringify(decisionsFile(page, decisions), null, 1) + "\n";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: "application/json" }));
  link.download = `${page.dataset}__${page.image}.decisions.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// A reload must not lose an hour's work. Where a browser keeps nothing for files, it is lost all the same
function remember(page, decisions) {
  try {
    localStorage.setItem(`hvlabel ${page.seal}`, JSON.stringify(decisionsFile(page, decisions)));
  } catch {
    return;
  }
}

function remembered(page) {
  const decisions = newDecisions(page);
  try {
    const kept = JSON.parse(localStorage.getItem(`hvlabel ${page.seal}`));
    if (kept === null || kept.order.length !== decisions.order.length) return decisions;
    decisions.order = kept.order;
    for (const verdict of VERDICTS) kept[verdict].forEach((id) => decisions.verdicts.set(id, verdict));
  } catch {
    return decisions;
  }
  return decisions;
}
