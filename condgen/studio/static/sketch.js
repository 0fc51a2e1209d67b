const root = element.querySelector(".cg");
root.classList.add("cg-sketch");
const EDGE = 512, PENS = { Thin: 4, Medium: 10, Thick: 24 };
const canvas = el("canvas", { width: EDGE, height: EDGE });
canvas.setAttribute("role", "img");
canvas.setAttribute("aria-label", `${props.label}: draw with a mouse, a pen or a finger`);
const pen = canvas.getContext("2d");
const steps = [];
let size = PENS.Medium, ink = "#000000", shown = "", last = null;

function chip(text, group, pick) {
  const node = el("button", { type: "button", onclick: () => { pick(); for (const other of group) other.setAttribute("aria-pressed", String(other === node)); } }, text);
  group.push(node);
  return node;
}
const inks = [], sizes = [];
const tools = el("div", { className: "cg-chips" }, chip("Pen", inks, () => { ink = "#000000"; }), chip("Eraser", inks, () => { ink = "#ffffff"; }), ...Object.entries(PENS).map(([name, width]) => chip(name, sizes, () => { size = width; })), el("button", { type: "button", onclick: undo }, "Undo"), el("button", { type: "button", onclick: clear }, "Clear"));
inks[0].setAttribute("aria-pressed", "true");
inks[1].setAttribute("aria-pressed", "false");
sizes.forEach((node, k) => node.setAttribute("aria-pressed", String(k === 1)));
root.append(el("span", { className: "cg-name" }, props.label), canvas, tools);

function blank() {
  pen.fillStyle = "#ffffff";
  pen.fillRect(0, 0, EDGE, EDGE);
}
function keep() {
  shown = canvas.toDataURL("image/png");
  props.value = shown;
}
function undo() {
  if (!steps.length) return;
  const url = steps.pop();
  props.value = url;
  load(url);
}
function clear() {
  if (shown) steps.push(shown);
  blank();
  shown = "";
  props.value = "";
}
function load(url) {
  shown = url;
  if (!url) return blank();
  const image = new Image();
  image.onload = () => { blank(); pen.drawImage(image, 0, 0, EDGE, EDGE); };
  image.src = url;
}
function place(event) {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) * EDGE) / box.width, ((event.clientY - box.top) * EDGE) / box.height];
}
function line(event) {
  const next = place(event);
  Object.assign(pen, { strokeStyle: ink, lineWidth: ink === "#ffffff" ? 2 * size : size, lineCap: "round", lineJoin: "round" });
  pen.beginPath();
  pen.moveTo(...last);
  pen.lineTo(...next);
  pen.stroke();
  last = next;
}
canvas.addEventListener("pointerdown", (event) => {
  steps.push(shown);
  if (steps.length > 30) steps.shift();
  canvas.setPointerCapture(event.pointerId);
  last = place(event);
  line(event);
});
canvas.addEventListener("pointermove", (event) => { if (last) for (const one of event.getCoalescedEvents?.() || [event]) line(one); });
for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { if (last) { last = null; keep(); } });
function render() {
  if ((props.value || "") !== shown) load(props.value || "");
}
blank();
watch(["value"], render);
render();
