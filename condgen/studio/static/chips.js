const root = element.querySelector(".cg");
root.classList.add("cg-row");
function render() {
  const list = el("div", { className: "cg-chips" });
  list.setAttribute("role", "group");
  list.setAttribute("aria-label", props.label);
  list.append(...(props.value || []).map((text) => el("button", { type: "button", onclick: () => trigger("pick", { text }) }, text)));
  root.replaceChildren(...(props.value || []).length ? [el("span", { className: "cg-name" }, props.label), list] : []);
}
watch(["value"], render);
render();
