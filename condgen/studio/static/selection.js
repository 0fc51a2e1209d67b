// Selection of images in a grid, before grid.js; it lasts while other pages of the grid are shown.
const chosen = new Set();
const selected = el("span", { className: "cg-count" });
selected.setAttribute("role", "status");
const many = [];

function choose(id, on) {
  if (on) chosen.add(id);
  else chosen.delete(id);
}
function checkbox(card) {
  const box = el("input", { type: "checkbox", checked: chosen.has(card.id), title: "Select" });
  box.dataset.id = card.id;
  box.setAttribute("aria-label", `Select: ${card.alt || card.caption}`);
  box.addEventListener("change", () => { choose(card.id, box.checked); showSelection(); });
  return box;
}
function bulk(name, label, image, question) {
  const run = () => {
    const ids = [...chosen];
    if (question && !window.confirm(question.replace("#", ids.length === 1 ? "this image" : `these ${ids.length} images`))) return;
    if (name === "delete") chosen.clear();
    trigger("many", { action: name, ids });
    showSelection();
  };
  const node = el("button", { type: "button", onclick: run }, icon(image), label);
  many.push(node);
  return node;
}
function showSelection() {
  const cards = (props.value || []).filter((card) => card.id);
  selected.textContent = chosen.size ? `${chosen.size} selected` : "";
  for (const node of many) node.disabled = !chosen.size;
  for (const box of root.querySelectorAll(".cg-cell input[type=checkbox]")) {
    box.checked = chosen.has(box.dataset.id);
    box.closest(".cg-cell").classList.toggle("selected", box.checked);
  }
  const bar = root.querySelector(".cg-selection");
  bar.hidden = !cards.length && !chosen.size;
}
function selectionBar() {
  const page = () => { for (const card of props.value || []) if (card.id) choose(card.id, true); showSelection(); };
  const none = el("button", { type: "button", onclick: () => { chosen.clear(); showSelection(); } }, icon("close"), "Clear");
  many.push(none);
  const bar = el("div", { className: "cg-selection cg-buttons", hidden: true },
    el("button", { type: "button", onclick: page }, icon("select"), "Select page"), none,
    bulk("star", "Star", "star"), bulk("unstar", "Remove star", "unstar"), bulk("download", "Download", "download"),
    bulk("delete", "Delete", "delete", "Delete # for good?"), selected);
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", "Selected images");
  return bar;
}
