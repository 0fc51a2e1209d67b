const root = element.querySelector(".cg");
root.classList.add("cg-latent");
const image = el("img", { alt: "" });
const wait = el("p", { className: "cg-info", role: "status" });
const starts = el("div", { className: "cg-starts" });
const reset = el("button", { type: "button", onclick: () => change({}) }, "Reset sliders");
const download = el("a", { title: "Download", download: "" }, icon("download"), "Download");
const list = el("div", { className: "cg-directions" });
const pinned = el("div", { className: "cg-pinned" }, el("div", { className: "cg-shown" }, image), el("div", { className: "cg-buttons" }, reset, download), wait, starts);
root.append(pinned, list);
let built = "", begun = "", model = "";

function text(value) {
  return `${value > 0 ? "+" : ""}${value.toFixed(1)}`;
}
function describe() {
  const moved = Object.entries(props.value || {}).filter(([, v]) => v).map(([k, v]) => `dimension ${k} moved by ${text(v)}`);
  image.alt = `The image${moved.length ? `, ${moved.join(", ")}` : ""}`;
}
function change(value) {
  props.value = value;
  trigger("move", {});
  show();
}
function row(one) {
  const range = el("input", { type: "range", min: -props.range, max: props.range, step: 0.1, value: 0 });
  const name = `Dimension ${one.index}`;
  range.setAttribute("aria-label", name);
  const out = el("output", {}, "0.0");
  const low = el("img", { alt: `${name} moved down` }), high = el("img", { alt: `${name} moved up` });
  const end = (node, value) => el("button", { type: "button", title: `Move to ${text(value)}`, onclick: () => change({ ...props.value, [one.index]: value }) }, node);
  range.addEventListener("input", () => change({ ...props.value, [one.index]: Number(range.value) }));
  range.addEventListener("dblclick", () => change({ ...props.value, [one.index]: 0 }));
  const node = el("div", { className: "cg-direction", title: one.note }, end(low, -props.extent), el("div", {}, el("span", { className: "cg-name" }, name, out), range), end(high, props.extent));
  node.set = (value) => {
    range.value = value;
    range.setAttribute("aria-valuetext", `${text(value)} standard deviations`);
    out.textContent = text(value);
  };
  node.dress = (found) => { low.src = found.low; high.src = found.high; node.title = found.note; };
  return node;
}
function show() {
  props.dimensions.forEach((one, k) => list.children[k] && list.children[k].set(Number((props.value || {})[one.index]) || 0));
  describe();
}
function render() {
  const names = JSON.stringify(props.dimensions.map((one) => one.index));
  if (names !== built) {
    built = names;
    list.replaceChildren(...props.dimensions.map(row));
  }
  props.dimensions.forEach((one, k) => list.children[k].dress(one));
  starts.replaceChildren(...props.starts.map((one) => el("figure", {}, el("img", { src: one.url, alt: one.caption }), el("figcaption", {}, one.caption))));
  if (props.image) { image.src = props.image; download.href = props.image; download.download = props.file; }
  root.classList.toggle("pixels", Boolean(props.pixels));
  root.classList.toggle("empty", !props.dimensions.length);
  wait.textContent = props.dimensions.length ? "" : "Measuring what each dimension does.";
  show();
}
function begin() {
  if (!props.model || !root.offsetParent || begun === props.stale) return;
  begun = props.stale;
  if (model && model !== props.model) props.value = {};
  model = props.model;
  trigger("begin", {});
}
watch(["dimensions", "starts", "image", "pixels", "file"], render);
watch(["value"], show);
watch(["stale", "model"], begin);
window.addEventListener("latent-start", () => { begun = ""; begin(); });
new IntersectionObserver(begin).observe(root);
render();
