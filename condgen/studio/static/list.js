root.classList.add("cg-slot", "cg-list");
const SHOWN = 24;
file.multiple = true;
let shown = null, busy = false;

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
receive(take);
watch(["value"], render);
render();
