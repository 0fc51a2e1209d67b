const root = element.querySelector(".cg");
root.classList.add("cg-options");
let built = "";

function set(name, value) {
  props.value = { ...props.value, [name]: value };
}
function row(option) {
  const id = `cg-${option.name}-${Math.random().toString(36).slice(2)}`;
  const limits = { min: option.low, max: option.high, step: option.step };
  const range = el("input", { type: "range", ...limits });
  const number = el("input", { type: "number", id, ...limits });
  range.setAttribute("aria-label", option.label);
  const show = () => {
    const value = (props.value || {})[option.name] ?? option.default;
    for (const node of [range, number]) if (document.activeElement !== node || node === range) node.value = value;
  };
  range.addEventListener("input", () => { number.value = range.value; set(option.name, Number(range.value)); });
  number.addEventListener("input", () => { if (number.value !== "") { range.value = number.value; set(option.name, Number(number.value)); } });
  const node = el("div", { className: "cg-option", title: option.info || "" }, el("label", { htmlFor: id }, option.label), number, range);
  if (option.info) node.append(el("span", { className: "cg-info" }, option.info));
  node.show = show;
  show();
  return node;
}
function render() {
  const state = JSON.stringify(props.options);
  if (state !== built) {
    built = state;
    const known = new Set(props.options.map((option) => option.name));
    const kept = Object.entries(props.value || {}).filter(([name]) => known.has(name));
    const defaults = props.options.map((option) => [option.name, option.default]);
    const value = { ...Object.fromEntries(defaults), ...Object.fromEntries(kept) };
    if (JSON.stringify(value) !== JSON.stringify(props.value)) props.value = value;
    root.replaceChildren(...props.options.map(row));
  }
  for (const node of root.children) node.show();
}
let due = 0;
watch(["value", "options"], () => {  // of a model that was chosen both come, one after the other
  clearTimeout(due);
  due = setTimeout(render);
});
render();
