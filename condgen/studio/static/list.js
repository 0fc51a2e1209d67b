const root = element.querySelector(".cg");
root.classList.add("cg-slot", "cg-list");
const MOST = 4.5e6, EDGE = 2048; // bytes of an upload, pixels of the edge of a photograph that is reduced
const SHOWN = 24;
const file = el("input", { type: "file", accept: "image/*", multiple: true, hidden: true, tabIndex: -1, ariaLabel: props.label });
const box = el("div", { className: "cg-drop" });
const status = el("p", { className: "cg-info" });
status.setAttribute("role", "status");
root.setAttribute("role", "group");
root.setAttribute("aria-label", props.label);
root.append(el("span", { className: "cg-name" }, props.label), box, status, file);
let shown = null, busy = false;

async function reduced(given) {
  if (given.size <= MOST) return given;
  const bitmap = await createImageBitmap(given), scale = Math.min(1, EDGE / Math.max(bitmap.width, bitmap.height));
  const canvas = el("canvas", { width: Math.max(1, bitmap.width * scale), height: Math.max(1, bitmap.height * scale) });
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.95));
  return new File([blob], given.name.replace(/\.[^.]*$/, "") + ".jpg", { type: "image/jpeg" });
}
async function take(files) {
  const images = [...files].slice(0, props.most), given = [];
  if (!images.length || busy) return;
  busy = true;
  let failed = 0;
  for (const one of images) {
    status.textContent = images.length > 1 ? `Uploading image ${given.length + failed + 1} of ${images.length}.` : "Uploading.";
    try {
      const { path, url } = await upload(await reduced(one));
      given.push({ path, url, name: one.name });
    } catch {
      failed += 1;
    }
  }
  busy = false;
  props.value = [...(props.value || []), ...given].slice(-props.most);
  status.textContent = failed ? `${failed} of ${images.length} files could not be uploaded: too large, or no images.` : "";
  if (files.length > props.most) status.textContent += ` Only ${props.most} images are taken.`;
  render();
}
function remove(place) {
  props.value = place === null ? [] : props.value.filter((one, k) => k !== place);
  render();
  box.querySelector("button").focus();
}
function choose(text) {
  const button = el("button", { type: "button", onclick: () => file.click() }, text);
  button.setAttribute("aria-label", `${text}: ${props.label}`);
  return button;
}
function render() {
  const value = props.value || [], state = JSON.stringify(value);
  if (state === shown) return;
  shown = state;
  root.classList.toggle("filled", Boolean(value.length));
  if (!value.length) return box.replaceChildren(choose("Choose images"), el("span", { className: "cg-info" }, "or drop or paste them here"));
  const list = el("ul", {}, ...value.slice(0, SHOWN).map((one, k) => {
    const close = el("button", { type: "button", title: "Remove", onclick: () => remove(k) }, icon("close"));
    close.setAttribute("aria-label", `Remove: ${one.name}`);
    return el("li", { title: one.name || "" }, el("img", { src: fileUrl(one.url), alt: one.name || "image" }), close);
  }));
  const more = value.length > SHOWN ? `and ${value.length - SHOWN} more` : "";
  const clear = el("button", { type: "button", onclick: () => remove(null) }, "Remove all");
  box.replaceChildren(list, el("div", { className: "cg-slot-row" }, el("span", { className: "cg-caption" }, more), choose("Add"), clear));
}
file.addEventListener("change", () => { take(file.files); file.value = ""; });
root.addEventListener("dragover", (event) => { event.preventDefault(); root.classList.add("over"); });
root.addEventListener("dragleave", () => root.classList.remove("over"));
root.addEventListener("drop", (event) => { event.preventDefault(); root.classList.remove("over"); take(event.dataTransfer.files); });
root.addEventListener("paste", (event) => { if (event.clipboardData.files.length) { event.preventDefault(); take(event.clipboardData.files); } });
watch(["value"], render);
render();
