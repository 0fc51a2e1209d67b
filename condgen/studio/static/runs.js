const root = element.querySelector(".cg");
root.classList.add("tr-runs");
const list = el("ul", {});
list.setAttribute("aria-label", props.label);
const empty = el("p", { className: "cg-empty" }, "No training yet. Begin one under “New training”.");
root.append(list, empty);
const rows = new Map();

function act(name, text, run) {
  const node = el("button", { type: "button", onclick: () => trigger(name, { name: run }) }, text);
  node.setAttribute("aria-label", `${text}: ${run}`);
  return node;
}
function row(name) {
  const show = el("button", { type: "button", className: "tr-name", onclick: () => trigger("show", { name }) }, name);
  const parts = {
    show, state: el("span", { className: "tr-state" }), recipe: el("span", { className: "cg-info" }),
    bar: el("i", {}), text: el("p", {}), message: el("p", { className: "tr-message" }),
    stop: act("stop", "Stop", name), resume: act("resume", "Resume", name), use: act("use", "Use this model now", name),
  };
  const buttons = el("div", { className: "tr-buttons" }, parts.stop, parts.resume, parts.use);
  const bar = el("div", { className: "tr-bar" }, parts.bar);
  const node = el("li", {}, el("div", { className: "tr-head" }, show, parts.state, parts.recipe), bar, parts.text, parts.message, buttons);
  return { node, bar, ...parts };
}
function put(node, text) { if (node.textContent !== text) node.textContent = text; }
function render() {
  const runs = (props.value && props.value.runs) || [], selected = props.value && props.value.selected;
  const keep = new Set(runs.map((run) => run.name));
  for (const [name, { node }] of rows) if (!keep.has(name)) { node.remove(); rows.delete(name); }
  runs.forEach((run, place) => {
    if (!rows.has(run.name)) rows.set(run.name, row(run.name));
    const own = rows.get(run.name), active = run.state === "running" || run.state === "stopping";
    own.show.setAttribute("aria-pressed", String(run.name === selected));
    put(own.state, run.state);
    own.state.dataset.state = run.state;
    put(own.recipe, run.recipe);
    put(own.text, run.text);
    put(own.message, run.message);
    own.message.hidden = !run.message;
    own.bar.hidden = own.bar.parentElement.hidden = run.progress === null || !active;
    own.bar.style.width = `${100 * (run.progress || 0)}%`;
    own.stop.hidden = !active;
    own.stop.disabled = run.state === "stopping";
    own.resume.hidden = active || run.state === "finished" || !run.recipe;
    own.use.hidden = !run.usable;
    if (list.children[place] !== own.node) list.insertBefore(own.node, list.children[place] || null);
  });
  empty.hidden = runs.length > 0;
}
watch(["value"], render);
render();
