const root = element.querySelector(".cg");
root.classList.add("cg-picker");
const select = el("select", {});
select.setAttribute("aria-label", props.label);
root.append(select);
let built = "", asked = 0;
function render() {
  const state = JSON.stringify(props.groups);
  if (state !== built) {
    built = state;
    select.replaceChildren(...props.groups.map((group) => {
      const node = el("optgroup", { label: group.label });
      node.append(...group.models.map((model) => el("option", { value: model.name }, model.note ? `${model.name} (${model.note})` : model.name)));
      return node;
    }));
  }
  select.value = props.value;
}
function refresh() {
  if (Date.now() - asked < 1000) return;
  asked = Date.now();
  trigger("refresh", {});
}
select.addEventListener("change", () => { props.value = select.value; trigger("input", {}); });
for (const name of ["pointerenter", "pointerdown", "focus"]) select.addEventListener(name, refresh);
watch(["value", "groups"], render);
render();
