root.classList.add("cg-slot");
let shown = null;

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
receive(([given]) => take(given));
watch(["value"], render);
render();
