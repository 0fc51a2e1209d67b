// Before grid.js, whose cells, menus and viewer it uses: the cards of `props.value` as a table, see `image_table`.
const table = el("table", {}), caption = el("caption", { className: "cg-hidden" });
const scroller = el("div", { className: "cg-table", tabIndex: 0 }, table);
let head = "", places = new Map();

function heading(scope, text) {
  return el("th", { scope, title: text }, el("span", {}, text));
}
function titles(cards, place, title) {
  return [...new Map(cards.map((card) => [card[place], card[title]])).entries()].sort((a, b) => a[0] - b[0]);
}
function renderHead(cards) {
  const rows = titles(cards, "row", "row_title"), columns = titles(cards, "column", "column_title");
  const axes = (cards[0] || {}).axes || ["", ""];
  const state = JSON.stringify([rows, columns, axes]);
  if (state === head) return;
  head = state;
  places = new Map();
  const named = rows.some(([, title]) => title);
  const top = el("tr", {}, ...columns.map(([, title]) => heading("col", title)));
  if (named) top.prepend(el("td", { className: "cg-corner" }, el("span", {}, `${axes[1]} \u2192`), el("span", {}, `${axes[0]} \u2193`)));
  const body = rows.map(([row, title]) => el("tr", {},
    ...(named ? [heading("row", title)] : []),
    ...columns.map(([column]) => {
      const node = el("td", {});
      places.set(`${row} ${column}`, { node, state: "" });
      return node;
    })));
  table.replaceChildren(caption, el("thead", {}, top), el("tbody", {}, ...body));
  caption.textContent = [props.label, ...[axes[0] && `rows: ${axes[0]}`, axes[1] && `columns: ${axes[1]}`].filter(Boolean)].join(", ");
  scroller.style.setProperty("--count", columns.length);
}
function renderTable() {
  if (!scroller.isConnected) {
    grid.remove();
    root.prepend(scroller);
    scroller.setAttribute("role", "region");
    scroller.setAttribute("aria-label", props.label);
  }
  const cards = props.value || [];
  scroller.hidden = !cards.length;
  empty.textContent = cards.length ? "" : props.empty || "";
  empty.hidden = Boolean(cards.length) || !props.empty;
  renderHead(cards);
  const filled = new Set();
  for (const card of cards) {
    const place = places.get(`${card.row} ${card.column}`), state = JSON.stringify(card);
    filled.add(place);
    if (!place || place.state === state) continue;
    const live = card.frame && place.node.querySelector(".live img");
    if (live) live.src = card.frame;
    else place.node.replaceChildren(cell(card, "div"));
    place.state = state;
  }
  for (const place of places.values()) if (!filled.has(place)) { place.node.replaceChildren(); place.state = ""; }
  scroller.classList.toggle("pixels", cards.some((card) => card.pixels));
  layoutTable();
}
function layoutTable() {
  const columns = Number(scroller.style.getPropertyValue("--count")) || 1;
  if (!root.clientWidth) return;
  const longest = Math.max(0, ...[...table.querySelectorAll("tbody th")].map((node) => node.title.length));
  const side = longest ? Math.min(160, Math.max(64, 9 * longest + 16), root.clientWidth * 0.28) : 0;
  const edge = (root.clientWidth - side - 16) / columns - 14;
  scroller.style.setProperty("--edge", `${Math.floor(Math.max(124, Math.min(240, edge)))}px`);
  scroller.style.setProperty("--side", `${Math.floor(side)}px`);
}
