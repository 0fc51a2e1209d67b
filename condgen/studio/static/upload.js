// Images that a person gives, before slot.js and list.js: their size, the button that chooses them, drop and paste.
const MOST = 4.5e6, EDGE = 2048; // bytes of an upload, pixels of the edge of a photograph that is reduced
const root = element.querySelector(".cg");
const file = el("input", { type: "file", accept: "image/*", hidden: true, tabIndex: -1, ariaLabel: props.label });
const box = el("div", { className: "cg-drop" });
const status = el("p", { className: "cg-info" });
status.setAttribute("role", "status");
root.setAttribute("role", "group");
root.setAttribute("aria-label", props.label);
root.append(el("span", { className: "cg-name" }, props.label), box, status, file);

async function reduced(given) {
  if (given.size <= MOST) return given;
  const bitmap = await createImageBitmap(given), scale = Math.min(1, EDGE / Math.max(bitmap.width, bitmap.height));
  const canvas = el("canvas", { width: Math.max(1, bitmap.width * scale), height: Math.max(1, bitmap.height * scale) });
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.95));
  return new File([blob], given.name.replace(/\.[^.]*$/, "") + ".jpg", { type: "image/jpeg" });
}
function choose(text) {
  const button = el("button", { type: "button", onclick: () => file.click() }, text);
  button.setAttribute("aria-label", `${text}: ${props.label}`);
  return button;
}
function receive(take) {
  file.addEventListener("change", () => { take(file.files); file.value = ""; });
  root.addEventListener("dragover", (event) => { event.preventDefault(); root.classList.add("over"); });
  root.addEventListener("dragleave", () => root.classList.remove("over"));
  root.addEventListener("drop", (event) => { event.preventDefault(); root.classList.remove("over"); take(event.dataTransfer.files); });
  root.addEventListener("paste", (event) => { if (event.clipboardData.files.length) { event.preventDefault(); take(event.clipboardData.files); } });
}
