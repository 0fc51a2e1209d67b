const root = element.querySelector(".cg");
root.classList.add("cg-labels");
const CHIPS = 24;
let built = "";

function set(name, value) {
  const values = { ...props.value };
  if (value === null || value === "") delete values[name];
  else values[name] = value;
  props.value = values;
  show();
}
function title(attribute) {
  return attribute.name.replaceAll("_", " ").replace(/^./, (c) => c.toUpperCase());
}
function chips(attribute) {
  const group = el("div", { className: "cg-chips" });
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", title(attribute));
  for (const value of attribute.values) {
    const chip = el("button", { type: "button", onclick: () => set(attribute.name, (props.value || {})[attribute.name] === value ? null : value) }, value);
    chip.dataset.value = value;
    group.append(chip);
  }
  return group;
}
function choice(attribute) {
  const select = el("select", {}, el("option", { value: "" }, "any"), ...attribute.values.map((value) => el("option", { value }, value)));
  select.setAttribute("aria-label", title(attribute));
  select.addEventListener("change", () => set(attribute.name, select.value));
  return select;
}
function number(attribute) {
  const low = attribute.low ?? attribute.mean - 3, high = attribute.high ?? attribute.mean + 3;
  const limits = { min: low, max: high, step: (high - low) / 100 || "any" };
  const range = el("input", { type: "range", ...limits, value: attribute.mean });
  const use = el("input", { type: "checkbox" });
  const out = el("output", {});
  range.setAttribute("aria-label", title(attribute));
  use.setAttribute("aria-label", `Specify ${attribute.name}`);
  range.addEventListener("input", () => set(attribute.name, Number(Number(range.value).toPrecision(4))));
  use.addEventListener("change", () => set(attribute.name, use.checked ? Number(Number(range.value).toPrecision(4)) : null));
  const node = el("div", { className: "cg-number" }, use, range, out);
  node.show = (value) => { use.checked = value !== undefined; if (value !== undefined) range.value = value; out.textContent = value ?? "any"; };
  return node;
}
function each(attribute) {
  if (!EVENTS.includes("each")) return [];
  return [el("button", { type: "button", className: "cg-each", onclick: () => trigger("each", { name: attribute.name }) }, `One of each ${attribute.name.replaceAll("_", " ")}`)];
}
function show() {
  for (const row of root.children) {
    const value = (props.value || {})[row.dataset.name];
    const field = row.lastChild;
    if (field.show) field.show(value);
    else if (field.tagName === "SELECT") field.value = value ?? "";
    else for (const chip of field.children) chip.setAttribute("aria-pressed", String(chip.dataset.value === value));
  }
}
function render() {
  const state = JSON.stringify(props.attributes);
  if (state !== built) {
    built = state;
    root.replaceChildren(...props.attributes.map((attribute) => {
      const field = !attribute.values.length ? number(attribute) : attribute.values.length > CHIPS ? choice(attribute) : chips(attribute);
      const row = el("div", { className: "cg-label" }, el("span", { className: "cg-name" }, title(attribute)), ...each(attribute), field);
      row.dataset.name = attribute.name;
      return row;
    }));
  }
  show();
}
watch(["value", "attributes"], render);
render();
