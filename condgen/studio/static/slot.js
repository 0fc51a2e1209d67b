const root = element.querySelector(".cg");
root.classList.add("cg-slot");
const MOST = 4.5e6, EDGE = 2048; // bytes of an upload, pixels of the edge of a photograph that is reduced
const file = el("input", { type: "file", accept: "image/*", hidden: true, tabIndex: -1, ariaLabel: props.label });
const box = el("div", { className: "cg-drop" });
const status = el("p", { className: "cg-info" });
status.setAttribute("role", "status");
root.setAttribute("role", "group");
root.setAttribute("aria-label", props.label);
root.append(el("span", { className: "cg-name" }, props.label), box, status, file);
let shown = null;

async function reduced(given) {
  if (given.size <= MOST) return given;
  const bitmap = await createImageBitmap(given), scale = Math.min(1, EDGE / Math.max(bitmap.width, bitmap.height));
  const canvas = el("canvas", { width: Math.max(1, bitmap.width * scale), height: Math.max(1, bitmap.height * scale) });
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.95));
  return new File([blob], given.name.replace(/\.[^.]*$/, "") + ".jpg", { type: "image/jpeg" });
}
async function take(given) {
  if (!given) return;
  status.textContent = "Uploading.";
  try {
    const { path, url } = await upload(await reduced(given));
    props.value = { path, url, name: given.name };
    status.textContent = "";
    render();
    trigger("input");
  } catch {
    status.textContent = given.size > MOST ? "This file is too large, or no image." : "The image could not be uploaded.";
  }
}
function clear() {
  props.value = null;
  render();
  trigger("input");
  box.querySelector("button").focus();
}
function choose(text) {
  const button = el("button", { type: "button", onclick: () => file.click() }, text);
  button.setAttribute("aria-label", `${text}: ${props.label}`);
  return button;
}
function render() {
  const value = props.value && props.value.url ? props.value : null, state = JSON.stringify(value);
  if (state === shown) return;
  shown = state;
  root.classList.toggle("filled", Boolean(value));
  if (!value) return box.replaceChildren(choose("Choose an image"), el("span", { className: "cg-info" }, "or drop or paste one here"));
  const image = el("img", { src: fileUrl(value.url), alt: `${props.label}: ${value.name || "image"}` });
  const failed = el("p", { className: "cg-info", hidden: true }, "The browser cannot show this file.");
  image.addEventListener("load", () => image.classList.toggle("pixels", image.naturalWidth < 128));
  image.addEventListener("error", () => { image.hidden = true; failed.hidden = false; });
  const remove = el("button", { type: "button", title: "Remove", onclick: clear }, icon("close"));
  remove.setAttribute("aria-label", `Remove: ${props.label}`);
  const row = el("div", { className: "cg-slot-row" }, el("span", { className: "cg-caption", title: value.name || "" }, value.name || ""), choose("Replace"), remove);
  box.replaceChildren(image, failed, row);
}
file.addEventListener("change", () => { take(file.files[0]); file.value = ""; });
root.addEventListener("dragover", (event) => { event.preventDefault(); root.classList.add("over"); });
root.addEventListener("dragleave", () => root.classList.remove("over"));
root.addEventListener("drop", (event) => { event.preventDefault(); root.classList.remove("over"); take(event.dataTransfer.files[0]); });
root.addEventListener("paste", (event) => { const [given] = event.clipboardData.files; if (given) { event.preventDefault(); take(given); } });
watch(["value"], render);
render();
