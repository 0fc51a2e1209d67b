const root = element.querySelector(".cg");
root.classList.add("cg-wide");
function render() {
  root.replaceChildren(...(props.value || []).map((card) => {
    const url = fileUrl(card.url);
    const link = el("a", { href: url, download: card.file || "", title: "Download" }, icon("download"), "Download");
    return el("figure", {}, el("img", { src: url, alt: card.alt || card.caption }), el("figcaption", {}, card.caption, link));
  }));
}
watch(["value"], render);
render();
