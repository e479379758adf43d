// The fusion again, under settings of the person's choice, and what it would change.

function settingsAsYaml(before, now) {
  const lines = [];
  for (const [name, value] of Object.entries(now)) {
    if (name === "weights") {
      const changed = Object.entries(value).filter(([branch, w]) => w !== before.weights[branch]);
      if (changed.length) lines.push(`  weights: {${changed.map(([branch, w]) => `${branch}: ${w}`).join(", ")}}`);
    } else if (value !== before[name]) lines.push(`  ${name}: ${value === null ? "null" : value}`);
  }
  return lines.length ? ["fusion:", ...lines].join("\n") : "";
}

// {kept, lost, added}: results of fuse() compared
function comparison(before, after) {
  const had = new Set(before.kept.map((m) => m.candidate));
  const has = new Set(after.kept.map((m) => m.candidate));
  return {
    kept: [...has].filter((k) => had.has(k)),
    lost: [...had].filter((k) => !has.has(k)),
    added: [...has].filter((k) => !had.has(k)),
  };
}

// A number that a field may hold, or undefined
function valueOfField(field) {
  if (field.dataset.setting === "ranking") return field.value;
  if (field.dataset.setting === "coverage" && field.value === "") return null;
  const value = Number(field.value);
  const { min, max } = field;
  const isAllowed =
    field.value !== "" && Number.isFinite(value) && (min === "" || value >= Number(min)) && (max === "" || value <= Number(max));
  if (!isAllowed) return undefined;
  if (field.dataset.setting === "min_area_px" && !Number.isInteger(value)) return undefined;
  return field.dataset.setting === "coverage" && value === 0 ? undefined : value;
}

// onChange(outcome, comparison) is called after every change. Returns {settings, set(name, value)}
function liveFusion(page, items, onChange, select) {
  const form = document.getElementById("settings");
  const outcome = document.getElementById("outcome");
  const changes = pagedRows(
    document.querySelector("#changes tbody"), document.getElementById("changes-pager"), 15, changeRow);
  if (page.settings === null) {
    form.hidden = true;
    outcome.textContent = "Not possible on this page: see the note on top.";
    document.getElementById("changes").hidden = true;
    changes.show([]);
    return { settings: null, set() {} };
  }
  const settings = structuredClone(page.settings);
  const before = fuse(page, page.settings);
  const state = { settings, before, outcome: before, set, reset };

  for (const branch of Object.keys(settings.weights)) {
    if (!page.branches.includes(branch)) continue;
    const row = document.createElement("div");
    row.className = "setting";
    const label = document.createElement("label");
    label.textContent = `weights.${branch}`;
    label.htmlFor = `weight-${branch}`;
    const field = document.createElement("input");
    Object.assign(field, { type: "number", id: label.htmlFor, min: "0", max: "1", step: "any" });
    field.dataset.setting = `weights ${branch}`;
    row.append(label, field);
    document.getElementById("weights").append(row);
  }
  const fields = [...form.querySelectorAll("[data-setting]")];
  if (page.candidates.expected.includes(null)) form.querySelector("option").remove();

  function valueIn(name) {
    const [first, branch] = name.split(" ");
    return branch ? settings.weights[branch] : settings[first];
  }
  function show(except) {
    for (const field of fields) {
      if (field !== except) field.value = valueIn(field.dataset.setting) ?? "";
      field.setCustomValidity("");
    }
    const after = fuse(page, settings);
    const compared = comparison(before, after);
    state.outcome = after;
    outcome.textContent =
      `Keeps ${after.kept.length} masks (the label’s settings: ${before.kept.length}): ` +
      `${compared.lost.length} lost, ${compared.added.length} new.`;
    document.getElementById("yaml").textContent = settingsAsYaml(page.settings, settings);
    const lost = compared.lost.map((k) => ({ k, change: "lost", why: lossOf(after, k) }));
    const added = compared.added.map((k) => ({ k, change: "new", why: `was ${lossOf(before, k)}` }));
    document.getElementById("changes").hidden = !lost.length && !added.length;
    changes.show([...lost, ...added], 0);
    onChange(compared);
  }
  function lossOf(result, k) {
    const { reason, by, iou } = result.lost.get(k);
    return by === null ? reason : `${reason} of ${nameOf(items.candidates[by])}${iou === null ? "" : ` (IoU ${text3(iou)})`}`;
  }
  function changeRow({ k, change, why }) {
    const row = document.createElement("tr");
    row.append(
      cellOf(change), cellOf(nameOf(items.candidates[k]), "l"), cellOf(text3(page.candidates.expected[k])),
      cellOf(why, "l wrap"));
    return selectable(row, () => select(items.candidates[k]));
  }
  function set(name, value, field) {
    const [first, branch] = name.split(" ");
    if (branch) settings.weights[branch] = value;
    else settings[first] = value;
    show(field);
  }
  function reset() {
    Object.assign(settings, structuredClone(page.settings));
    show();
  }
  for (const field of fields) {
    field.addEventListener("input", () => {
      const value = valueOfField(field);
      if (value === undefined) field.setCustomValidity("not a value that this setting may have");
      else set(field.dataset.setting, value, field);
    });
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("reset").addEventListener("click", reset);
  show();
  return state;
}
