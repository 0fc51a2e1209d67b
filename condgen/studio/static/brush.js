const root = element.querySelector(".cg");
root.classList.add("cg-brush");
const MOST = 256; // pixels of the longer edge of a mask
const image = el("img", { alt: "", draggable: false }), canvas = el("canvas", { tabIndex: 0 });
const size = el("input", { type: "range", min: 4, max: 80, value: 30 });
const all = el("button", { type: "button", onclick: clear }, "Clear");
const box = el("div", { className: "cg-canvas" }, image, canvas);
const hint = "The arrow keys move the brush, the space bar draws.";
canvas.setAttribute("role", "img");
canvas.setAttribute("aria-label", `${props.label}. ${hint}`);
canvas.title = hint;
size.setAttribute("aria-label", "Size of the brush");
root.append(el("span", { className: "cg-name" }, props.label), box, el("div", { className: "cg-slot-row" }, "Brush", size, all));
const pen = canvas.getContext("2d");
let shown = null, last = null, at = null, drawn = null; // `drawn`: the value that the canvas shows

function clear() {
  pen.clearRect(0, 0, canvas.width, canvas.height);
  const before = props.value;
  drawn = props.value = null;
  if (before) trigger("input");
}
function radius() {
  return (Number(size.value) / 200) * Math.max(canvas.width, canvas.height);
}
function draw(to) {
  const from = last || to;
  pen.strokeStyle = pen.fillStyle = "#fff";
  pen.lineCap = "round";
  pen.lineWidth = 2 * radius();
  pen.beginPath();
  pen.moveTo(from.x, from.y);
  pen.lineTo(to.x + 0.01, to.y);
  pen.stroke();
  last = to;
}
function place(event) {
  const own = canvas.getBoundingClientRect();
  return { x: ((event.clientX - own.left) / own.width) * canvas.width, y: ((event.clientY - own.top) / own.height) * canvas.height };
}
function keep() {
  last = null;
  const copy = el("canvas", { width: canvas.width, height: canvas.height }), on = copy.getContext("2d");
  on.fillStyle = "#000";
  on.fillRect(0, 0, copy.width, copy.height);
  on.drawImage(canvas, 0, 0);
  const first = !props.value;
  drawn = props.value = copy.toDataURL("image/png");
  if (first) trigger("input");
}
function redraw() {  // a mask of before a reload
  const value = props.value, mask = el("img");
  mask.addEventListener("load", () => {
    if (props.value !== value) return;
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(mask, 0, 0, canvas.width, canvas.height);
    const pixels = pen.getImageData(0, 0, canvas.width, canvas.height);
    for (let i = 0; i < pixels.data.length; i += 4) {
      pixels.data[i + 3] = pixels.data[i];
      pixels.data.fill(255, i, i + 3);
    }
    pen.putImageData(pixels, 0, 0);
    drawn = value;
  });
  mask.src = value;
}
canvas.addEventListener("pointerdown", (event) => { event.preventDefault(); canvas.focus(); canvas.setPointerCapture(event.pointerId); draw(place(event)); });
canvas.addEventListener("pointermove", (event) => { if (event.buttons && last) draw(place(event)); });
canvas.addEventListener("pointerup", () => last && keep());
canvas.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!by && event.key !== " ") return;
  event.preventDefault();
  at = at || { x: canvas.width / 2, y: canvas.height / 2 };
  if (by) {
    const step = Math.max(1, radius() / 2);
    at = { x: Math.min(canvas.width, Math.max(0, at.x + by[0] * step)), y: Math.min(canvas.height, Math.max(0, at.y + by[1] * step)) };
    canvas.style.setProperty("--x", `${(100 * at.x) / canvas.width}%`);
    canvas.style.setProperty("--y", `${(100 * at.y) / canvas.height}%`);
    return;
  }
  last = null;
  draw(at);
  keep();
});
image.addEventListener("load", () => {
  const scale = Math.min(1, MOST / Math.max(image.naturalWidth, image.naturalHeight)) * (image.naturalWidth < 64 ? 4 : 1);
  canvas.width = Math.max(1, Math.round(image.naturalWidth * scale));
  canvas.height = Math.max(1, Math.round(image.naturalHeight * scale));
  image.classList.toggle("pixels", image.naturalWidth < 128);
  at = null;
  if (props.value) redraw();
});
function render() {
  const url = (props.image && props.image.url) || "";
  root.hidden = !url;
  if (url === shown) return;
  if (shown && props.value) drawn = props.value = null;  // it belongs to the image before
  shown = url;
  if (url) image.src = fileUrl(url);
}
watch(["image"], render);
watch(["value"], () => {
  if (!props.value) pen.clearRect(0, 0, canvas.width, canvas.height);
  else if (props.value !== drawn && image.complete && image.naturalWidth) redraw();
});
render();
