// Tables of any length: only the rows of one page are in the document.

function cellOf(content, className = "") {
  const cell = document.createElement("td");
  cell.className = className;
  if (content instanceof Node) cell.append(content);
  else cell.textContent = content;
  return cell;
}

function buttonOf(text, label, act) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  button.setAttribute("aria-label", label);
  button.title = label;
  button.addEventListener("click", (event) => {
    event.stopPropagation();
    act();
  });
  return button;
}

// A row that a click or, by keyboard, Enter selects
function selectable(row, act) {
  row.tabIndex = 0;
  row.addEventListener("click", act);
  row.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target === row) act();
  });
  return row;
}

// body: what rows are put into; pager: an element for buttons; rowOf(item, position) makes an element.
// show(items, page) draws; page stays within what there is
function pagedRows(body, pager, perPage, rowOf) {
  let items = [];
  let at = 0;
  const back = buttonOf("‹", "earlier rows", () => draw(at - 1));
  const on = buttonOf("›", "later rows", () => draw(at + 1));
  const where = document.createElement("span");
  pager.replaceChildren(back, where, on);

  function draw(page) {
    const nPages = Math.max(1, Math.ceil(items.length / perPage));
    at = Math.min(Math.max(0, page), nPages - 1);
    const start = at * perPage;
    body.replaceChildren(...items.slice(start, start + perPage).map((item, k) => rowOf(item, start + k)));
    where.textContent = `${items.length ? start + 1 : 0}–${Math.min(start + perPage, items.length)} of ${items.length}`;
    back.disabled = at === 0;
    on.disabled = at === nPages - 1;
    pager.hidden = nPages === 1;
  }
  return {
    show(newItems, page = at) {
      items = newItems;
      draw(page);
    },
    // the page that an item stands on
    showItem(position) {
      const page = Math.floor(position / perPage);
      if (page !== at) draw(page);
    },
  };
}
