// All images of a run: sorted, filtered, and a page of them in the document at a time.
const CARDS_PER_PAGE = 60;
const ROWS_PER_PAGE = 40;
const byId = (id) => document.getElementById(id);

const data = JSON.parse(byId("data").textContent);
const images = data.rows.map((row, place) => {
  const image = Object.fromEntries(data.columns.map((name, k) => [name, row[k]]));
  return { ...image, place, called: `${image.dataset}/${image.image}` };
});
const branches = data.columns.slice(data.columns.indexOf("failure") + 1);

// unknown values come last, whatever the direction
function byNumber(name, direction) {
  return (a, b) => {
    if (a[name] === null || b[name] === null) return (a[name] === null) - (b[name] === null);
    return direction * (a[name] - b[name]);
  };
}

const SORTS = [
  ["worst first", () => 0],
  ["best first", (a, b) => b.place - a.place],
  ["data set, name", (a, b) => (a.called < b.called ? -1 : a.called > b.called ? 1 : 0)],
  ["expected IoU, rising", byNumber("quality", 1)],
  ["coverage, rising", byNumber("coverage", 1)],
  ["coverage, falling", byNumber("coverage", -1)],
  ["masks, rising", byNumber("masks", 1)],
  ["masks, falling", byNumber("masks", -1)],
  ["suppressed, falling", byNumber("suppressed", -1)],
  ["agreement, rising", byNumber("agreement", 1)],
  ["failures first", (a, b) => (a.failure === null) - (b.failure === null)],
];

function share(value) {
  return value === null ? "–" : value.toFixed(2);
}

function percent(value) {
  return value === null ? "–" : `${Math.round(100 * value)} %`;
}

// A name in a shell, whatever is in it
function quoted(text) {
  return /^[\w./-]+$/.test(text) && !text.startsWith("-") ? text : `'${text.replaceAll("'", `'"'"'`)}'`;
}

function tellCommand(image) {
  byId("command-text").textContent = `hvlabel view ${quoted(image.called)} --results ${data.results}`;
  byId("command").showModal();
}

function cardOf(image) {
  const card = document.createElement(image.page ? "a" : "button");
  card.className = "card";
  if (image.page) card.href = image.page;
  else {
    card.type = "button";
    card.addEventListener("click", () => tellCommand(image));
  }
  if (image.picture) {
    const picture = document.createElement("img");
    Object.assign(picture, { src: image.picture, alt: `label of ${image.called}`, loading: "lazy" });
    card.append(picture);
  } else {
    const none = document.createElement("span");
    none.className = `none ${image.failure ? "bad" : ""}`;
    none.textContent = image.failure ?? "no picture: a file is damaged";
    card.append(none);
    card.disabled = image.failure !== null;
  }
  const says = document.createElement("span");
  says.className = "says";
  const lines = [[image.called, ""], [image.camera ?? "", "soft"]];
  if (image.failure === null) {
    lines.push([`${image.masks} masks, ${percent(image.coverage)} covered`, "soft"], [`expected IoU ${share(image.quality)}`, "soft"]);
  }
  for (const [text, className] of lines) {
    const line = document.createElement("span");
    line.className = className;
    line.textContent = text;
    says.append(line);
  }
  card.append(says);
  return card;
}

function rowOf(image) {
  const row = document.createElement("tr");
  const link = document.createElement("a");
  link.textContent = image.called;
  if (image.page) link.href = image.page;
  row.append(cellOf(link, "l"), cellOf(image.camera ?? "", "l"));
  for (const branch of branches) row.append(cellOf(image[branch] ?? ""));
  row.append(
    cellOf(image.masks), cellOf(image.suppressed ?? ""), cellOf(percent(image.coverage)), cellOf(share(image.quality)),
    cellOf(share(image.agreement)), cellOf(share(image.cut)), cellOf(share(image.unknown)));
  return row;
}

function optionsOf(select, values, all) {
  if (all) select.add(new Option(all, ""));
  values.forEach((value) => select.add(new Option(value, value)));
}

function limitOf(id) {
  const { value } = byId(id);
  return value === "" ? null : Number(value);
}

function isShown(image) {
  const above = (value, limit) => limit !== null && (value === null || value > limit);
  const below = (value, limit) => limit !== null && (value === null || value < limit);
  const name = byId("name").value.toLowerCase();
  if (byId("dataset").value && image.dataset !== byId("dataset").value) return false;
  if (byId("camera").value && image.camera !== byId("camera").value) return false;
  if (name && !image.called.toLowerCase().includes(name)) return false;
  if (byId("failed").checked && image.failure === null) return false;
  if (byId("with-page").checked && image.page === null) return false;
  return !(
    below(image.masks, limitOf("least-masks")) || above(image.masks, limitOf("most-masks")) ||
    above(image.coverage, limitOf("most-coverage")) || above(image.quality, limitOf("most-quality")));
}

const cards = pagedRows(byId("cards"), byId("cards-pager"), CARDS_PER_PAGE, cardOf);
const rows = pagedRows(document.querySelector("#rows tbody"), byId("rows-pager"), ROWS_PER_PAGE, rowOf);

function show() {
  const [, compare] = SORTS.find(([name]) => name === byId("sort").value);
  const shown = images.filter(isShown).sort(compare); // stable: what is equal stays worst first
  byId("count").textContent = `${shown.length} of ${images.length} shown`;
  cards.show(shown, 0);
  rows.show(shown.filter((image) => image.failure === null), 0);
}

const distinct = (name) => [...new Set(images.map((image) => image[name]).filter((value) => value !== null))].sort();
optionsOf(byId("sort"), SORTS.map(([name]) => name));
optionsOf(byId("dataset"), distinct("dataset"), "all");
optionsOf(byId("camera"), distinct("camera"), "all");
byId("filters").addEventListener("input", show);
byId("filters").addEventListener("submit", (event) => event.preventDefault());
show();
document.documentElement.dataset.ready = "yes";
