const root = element.querySelector(".cg");
const grid = el("ul", { className: "cg-grid" });
const empty = el("p", { className: "cg-empty" });
const sheet = el("figure", { className: "cg-sheet", hidden: true });
const viewer = el("dialog", { className: "cg-viewer" });
let shown = "";
root.append(grid, empty, sheet, viewer);
if (props.selectable) root.prepend(selectionBar());
grid.setAttribute("aria-label", props.label);
const cells = new Map();

function send(action, card) {
  if (action.confirm && !window.confirm(action.confirm)) return;
  if (props.selectable && action.name === "delete") choose(card.id, false);
  trigger(action.name, { id: card.id, card });
}
function offered(card) {
  return props.actions.filter((action) => !card.only || card.only.includes(action.name));
}
function button(action, card, text) {
  const node = el("button", { type: "button", title: action.label, onclick: () => send(action, card) }, icon(action.icon));
  node.dataset.action = action.name;
  if (text) node.append(action.label);
  else node.setAttribute("aria-label", `${action.label}: ${card.alt || card.caption}`);
  return node;
}
function download(card, text) {
  const link = el("a", { href: fileUrl(card.url), title: "Download", download: card.file || "" }, icon("download"));
  if (text) link.append("Download");
  else link.setAttribute("aria-label", `Download: ${card.alt || card.caption}`);
  return link;
}
function menu(card) {
  const id = `cg-menu-${Math.random().toString(36).slice(2)}`;
  const list = el("div", { className: "cg-menu", id, popover: "auto" });
  list.append(...offered(card).map((action) => button(action, card, true)), download(card, true));
  const opener = el("button", { type: "button", title: "More", popoverTargetElement: list }, icon("more"));
  opener.setAttribute("aria-label", `More: ${card.alt || card.caption}`);
  opener.setAttribute("aria-haspopup", "menu");
  list.addEventListener("click", () => list.hidePopover());
  list.addEventListener("keydown", (event) => {
    const items = [...list.children], at = items.indexOf(document.activeElement);
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    items[(next + items.length) % items.length].focus();
  });
  list.addEventListener("toggle", (event) => {
    if (event.newState !== "open") return;
    const box = opener.getBoundingClientRect(), own = list.getBoundingClientRect();
    list.style.left = `${Math.max(8, Math.min(box.left, innerWidth - own.width - 8))}px`;
    list.style.top = `${box.bottom + own.height > innerHeight ? box.top - own.height : box.bottom}px`;
    list.firstElementChild?.focus();
  });
  return [opener, list];
}
function buttons(card) {
  const row = el("div", { className: "cg-buttons" });
  if (props.selectable) row.append(checkbox(card));
  row.append(...offered(card).filter((action) => action.first).map((action) => button(action, card)));
  row.append(download(card));
  if (offered(card).some((action) => !action.first)) row.append(...menu(card));
  return row;
}
function cell(card, tag = "li") {
  const node = el(tag, { className: "cg-cell" });
  const source = card.frame || (card.url ? fileUrl(card.url) : "");
  if (source) {
    const image = el("span", { className: "cg-pair" }, el("img", { src: source, alt: card.alt || card.caption }));
    if (card.before) image.prepend(el("img", { src: card.before, alt: card.beforeAlt || "Input" }));
    if (card.frame) node.append(el("div", { className: "cg-image live" }, image));
    else node.append(el("button", { type: "button", className: "cg-image", title: "Enlarge", onclick: () => open(card.id) }, image));
  } else node.append(el("div", { className: "cg-image pending" }));
  const text = el("div", { className: "cg-text" });
  text.append(el("span", { className: "cg-caption", title: card.caption || "" }, card.caption || ""));
  if (card.note) text.append(el("span", { className: "cg-note", title: card.note }, card.note));
  node.append(text);
  if (card.id) node.append(buttons(card));
  node.classList.toggle("starred", Boolean(card.star));
  node.classList.toggle("selected", Boolean(card.selected));
  node.classList.toggle("pixels", Boolean(card.pixels));
  return node;
}
function open(id) {
  shown = id;
  const cards = props.value.filter((card) => card.id);
  const at = cards.findIndex((card) => card.id === id);
  if (at < 0) return viewer.close();
  const card = cards[at];
  const step = (by, name, label) =>
    el("button", { type: "button", title: label, ariaLabel: label, disabled: !cards[at + by], onclick: () => open(cards[at + by].id) }, icon(name));
  const close = el("button", { type: "button", title: "Close", ariaLabel: "Close", onclick: () => viewer.close() }, icon("close"));
  viewer.replaceChildren(
    el("img", { src: fileUrl(card.url), alt: card.alt || card.caption, className: card.pixels ? "pixels" : "" }),
    el("p", {}, [card.caption, card.note].filter(Boolean).join(", ")),
    el("div", { className: "cg-buttons" }, step(-1, "left", "Previous image"), ...offered(card).map((one) => button(one, card, true)), download(card, true), step(1, "right", "Next image"), close),
  );
  viewer.setAttribute("aria-label", card.alt || card.caption || "Image");
  for (const node of viewer.querySelectorAll("button[data-action]")) node.addEventListener("click", () => viewer.close());
  if (!viewer.open) viewer.showModal();
}
viewer.addEventListener("keydown", (event) => {
  const cards = props.value.filter((card) => card.id);
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const next = by && cards[cards.findIndex((card) => card.id === shown) + by];
  if (next) open(next.id);
});
viewer.addEventListener("click", (event) => event.target === viewer && viewer.close());

function layout() {
  if (props.table) return layoutTable();
  const count = (props.value || []).length;
  if (!root.clientWidth) return;
  const width = root.clientWidth, noted = props.value && props.value.some((card) => card.note);
  const top = Math.min(root.getBoundingClientRect().top + scrollY, innerHeight * 0.45);
  const height = props.fit ? Math.max(320, innerHeight - top - 24) : Infinity;
  if (props.fit) {  // one height, so that the page does not jump
    root.style.minHeight = `${Math.floor(height)}px`;
    root.style.setProperty("--height", `${Math.floor(height)}px`);
  }
  if (!count) return;
  const wide = props.value.some((card) => card.before) ? 2 : 1; // images in a cell
  grid.style.setProperty("--wide", wide);
  const least = 108 * wide;
  let best = 1, edge = 0;
  for (let columns = 1; columns <= Math.max(1, Math.floor(width / least)); columns++) {
    const rows = Math.ceil(count / columns), text = noted && width / columns < 180 ? 79 : 62;
    const size = Math.min(width / columns - 12, (height / rows - text) * wide);
    if (size > edge) [best, edge] = [columns, size];
  }
  edge = props.fit ? Math.max(edge, least - 12) : Math.min(220, width / Math.max(2, Math.floor(width / 200)) - 12);
  grid.style.setProperty("--edge", `${Math.floor(edge)}px`);
  grid.classList.toggle("small", edge < 122);
  grid.classList.toggle("two-lines", Boolean(noted) && edge < 168);
  if (props.fit) grid.style.setProperty("--columns", Math.min(best, Math.max(1, Math.floor(width / (edge + 12)))));
}
function replaced(old, node) {  // the focus stays at the same place
  const place = [...old.querySelectorAll("button, a, input")].indexOf(document.activeElement);
  old.replaceWith(node);
  if (place >= 0) [...node.querySelectorAll("button, a, input")][place]?.focus();
}
function headings(cards) {
  for (const old of grid.querySelectorAll(".cg-heading")) old.remove();
  cards.forEach((card, place) => {
    if (card.heading && card.heading !== cards[place - 1]?.heading) cells.get(`${place}`).node.before(el("li", { className: "cg-heading" }, el("h2", {}, card.heading)));
  });
}
function render() {
  if (props.table) return renderTable();
  const cards = props.value || [];
  const keep = new Set();
  cards.forEach((card, place) => {
    const key = `${place}`, state = JSON.stringify(card);
    keep.add(key);
    const old = cells.get(key);
    if (old && old.state === state) return;
    if (old && card.frame && old.node.querySelector(".live img")) {
      old.node.querySelector(".live img").src = card.frame;
      old.node.querySelector(".cg-caption").textContent = card.caption || "";
      old.state = state;
      return;
    }
    const node = cell(card);
    if (old) replaced(old.node, node);
    else grid.append(node);
    cells.set(key, { state, node });
  });
  for (const [key, { node }] of cells) if (!keep.has(key)) { node.remove(); cells.delete(key); }
  empty.textContent = cards.length ? "" : props.empty || "";
  empty.hidden = Boolean(cards.length) || !props.empty || Boolean(props.sheet);
  sheet.hidden = Boolean(cards.length) || !props.sheet;
  if (!sheet.hidden && sheet.dataset.url !== props.sheet.url) {
    sheet.dataset.url = props.sheet.url;
    sheet.replaceChildren(el("img", { src: fileUrl(props.sheet.url), alt: props.sheet.caption }), el("figcaption", {}, props.sheet.caption));
  }
  headings(cards);
  if (props.selectable) showSelection();
  layout();
}
watch(["value", "sheet", "empty"], render);
new ResizeObserver(layout).observe(root);
window.addEventListener("resize", layout);
render();
