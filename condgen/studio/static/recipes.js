const root = element.querySelector(".cg");
root.classList.add("tr-recipes");
const find = el("input", { type: "search", placeholder: "Find a recipe" });
find.setAttribute("aria-label", "Find a recipe");
const list = el("div", {});
const one = el("div", { className: "tr-one" });
const none = el("p", { className: "cg-info", role: "status", hidden: true }, "No recipe has these words.");
root.append(find, list, none, one);
const cards = new Map();

function card(recipe) {
  const choose = el("button", { type: "button", className: "tr-choose", onclick: () => pick(recipe.name) }, "Choose");
  choose.setAttribute("aria-label", `Choose ${recipe.name}`);
  const node = el("li", { className: "tr-card" },
    el("strong", {}, recipe.name), el("p", {}, recipe.text),
    el("p", { className: "tr-data" }, recipe.data), el("p", { className: "cg-info" }, recipe.time), choose);
  cards.set(recipe.name, { recipe, node });
  return node;
}
let built = "";
function build() {
  const state = JSON.stringify(props.groups || []);
  if (state === built) return;
  built = state;
  cards.clear();
  list.replaceChildren(...(props.groups || []).map((group, place) => {
    const details = el("details", { open: place === 0 }, el("summary", {}, `${group.label} (${group.recipes.length})`));
    const items = el("ul", {});
    items.append(...group.recipes.map(card));
    details.append(items);
    return details;
  }));
}
function pick(name) {
  props.value = name;
  trigger("pick", { name });
  render();
  const again = one.querySelector("button");
  if (again) again.focus();
}
function render() {
  build();
  const chosen = cards.get(props.value);
  find.hidden = list.hidden = Boolean(chosen);
  one.hidden = !chosen;
  if (!chosen) return;
  const { recipe } = chosen;
  const again = el("button", { type: "button", className: "tr-choose", onclick: () => { pick(""); find.focus(); } }, "Choose another recipe");
  one.replaceChildren(el("div", {}, el("strong", {}, recipe.name), el("p", {}, recipe.text), el("p", { className: "cg-info" }, `${recipe.data} ${recipe.time}`)), again);
}
find.addEventListener("input", () => {
  const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const details of list.children) {
    let shown = 0;
    for (const node of details.querySelectorAll("li")) {
      node.hidden = !words.every((word) => node.textContent.toLowerCase().includes(word));
      shown += !node.hidden;
    }
    details.hidden = !shown;
    if (words.length) details.open = true;
  }
  none.hidden = [...list.children].some((details) => !details.hidden);
});
watch(["value", "groups"], render);
render();
