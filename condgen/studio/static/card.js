const root = element.querySelector(".cg");
root.classList.add("cg-card");
const dialog = el("dialog", { className: "cg-viewer cg-about" });
const opener = el("button", { type: "button", onclick: show }, "About");
opener.title = props.label;
opener.setAttribute("aria-label", props.label);
opener.setAttribute("aria-haspopup", "dialog");
dialog.setAttribute("aria-label", props.label);
root.append(opener, dialog);

function show() {
  dialog.replaceChildren(el("p", { role: "status" }, "Reading the model."), closer());
  dialog.showModal();
  trigger("open", {});
}
function closer() {
  const button = el("button", { type: "button", className: "cg-close", title: "Close", onclick: () => dialog.close() }, icon("close"));
  button.setAttribute("aria-label", "Close");
  return button;
}
function inline(text) {
  // `code`, **bold**, [text](address) as its text; everything is a text node, images are not loaded
  const parts = text.replace(/!?\[([^\]]*)\]\([^)]*\)/g, "$1").split(/(`[^`]+`|\*\*[^*]+\*\*)/);
  return parts.filter(Boolean).map((part) =>
    part.length > 2 && part.startsWith("`") ? el("code", {}, part.slice(1, -1))
      : part.length > 4 && part.startsWith("**") ? el("strong", {}, part.slice(2, -2)) : part);
}
function cells(line, tag) {
  return line.trim().replace(/^\||\|$/g, "").split("|").map((text) => el(tag, {}, ...inline(text.trim())));
}
function markdown(text) {
  const nodes = [], lines = text.split("\n");
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i], heading = line.match(/^(#{1,6})\s+(.*)/);
    if (line.startsWith("```")) {
      const from = ++i;
      while (i < lines.length && !lines[i].startsWith("```")) i++;
      nodes.push(el("pre", { tabIndex: 0 }, lines.slice(from, i).join("\n")));
    } else if (heading) {
      nodes.push(el(heading[1].length > 2 ? "h4" : "h3", {}, ...inline(heading[2])));
    } else if (line.includes("|") && /^[\s|:-]*-[\s|:-]*$/.test(lines[i + 1] || "")) {
      const table = el("table", {}, el("thead", {}, el("tr", {}, ...cells(line, "th")))), body = el("tbody");
      for (i += 2; i < lines.length && lines[i].includes("|"); i++) body.append(el("tr", {}, ...cells(lines[i], "td")));
      i--;
      table.append(body);
      nodes.push(el("div", { className: "cg-scroll", tabIndex: 0 }, table));
    } else if (/^\s*[-*]\s+/.test(line)) {
      const list = el("ul");
      for (; i < lines.length && /^(\s*[-*]|\s\s)\s*\S/.test(lines[i]); i++) {
        if (/^\s*[-*]\s+/.test(lines[i])) list.append(el("li", {}, ...inline(lines[i].replace(/^\s*[-*]\s+/, ""))));
        else list.lastChild.append(" ", ...inline(lines[i].trim()));
      }
      i--;
      nodes.push(list);
    } else if (line.trim()) nodes.push(el("p", {}, ...inline(line)));
  }
  return nodes;
}
function render() {
  const card = props.value;
  if (!card || !card.facts || !dialog.open) return;
  const facts = el("dl", {}, ...card.facts.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]));
  const sheet = card.sheet ? [el("img", { src: fileUrl(card.sheet), alt: `Samples of ${card.name}` })] : [];
  const rest = card.text ? [el("details", {}, el("summary", {}, "Model card and scores"), ...markdown(card.text))] : [];
  dialog.replaceChildren(closer(), el("h2", {}, card.name), facts, ...sheet, ...rest);
  dialog.querySelector(".cg-close").focus();
}
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
watch(["value"], render);
