const ICONS = {
  seed: "M3 3h10v10H3z M6 6h.01 M10 6h.01 M6 10h.01 M10 10h.01",
  settings: "M2 5h12 M2 11h12 M6 3v4 M10 9v4",
  vary: "M3 8a5 5 0 0 1 9-3 M13 2v3h-3 M13 8a5 5 0 0 1-9 3 M3 14v-3h3",
  mix: "M6 8m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0 M10 8m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0",
  edit: "M3 13l1-3 7-7 2 2-7 7z",
  compare: "M2 3h5v10H2z M9 3h5v10H9z",
  latent: "M2 12c3-8 5 4 7-3s3-3 5-5",
  dice: "M3 3h10v10H3z M5.5 5.5h.01 M10.5 5.5h.01 M8 8h.01 M5.5 10.5h.01 M10.5 10.5h.01",
  translate: "M2 5h9 M8 2l3 3-3 3 M14 11H5 M8 8l-3 3 3 3",
  search: "M7 7m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0 M10 10l4 4",
  download: "M8 2v8 M5 7l3 3 3-3 M3 13h10",
  delete: "M3 4h10 M6 4V2h4v2 M5 4l.6 10h4.8L11 4",
  star: "M8 2l1.8 3.9 4.2.5-3.1 2.9.8 4.2L8 11.4 4.3 13.5l.8-4.2L2 6.4l4.2-.5z",
  unstar: "M8 2l1.8 3.9 4.2.5-3.1 2.9.8 4.2L8 11.4 4.3 13.5l.8-4.2L2 6.4l4.2-.5z M2 2l12 12",
  select: "M2 2h12v12H2z M5 8l2 2 4-4",
  more: "M3 8h.01 M8 8h.01 M13 8h.01",
  close: "M3 3l10 10 M13 3L3 13",
  left: "M10 3L5 8l5 5",
  right: "M6 3l5 5-5 5",
};
function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  for (const [k, v] of Object.entries({ viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" }))
    svg.setAttribute(k, v);
  path.setAttribute("d", ICONS[name] || ICONS.more);
  svg.append(path);
  return svg;
}
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) {
    if (k === "onclick") node.addEventListener("click", v);
    else if (k in node && k !== "style" && k !== "list") node[k] = v;
    else node.setAttribute(k, v);
  }
  node.append(...children);
  return node;
}
function fileUrl(url) {
  const root = (window.gradio_config && window.gradio_config.root) || "";
  return url.startsWith("gradio_api/") ? `${root}/${url}` : url;
}
