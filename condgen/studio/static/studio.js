() => {
  const KEY = "condgen-studio";
  window.condgen = {
    remembers: false,
    memory: () => [localStorage.getItem(KEY) || "{}"],
    now: () => {  // what a request needs to be found again after a reload
      condgen.saved = 0;
      clearTimeout(condgen.timer);
      condgen.timer = 0;
      return condgen.changed();
    },
    changed: () => {  // at once, then at most once a second
      if (condgen.timer || !condgen.remembers) return [];
      const wait = Math.max(0, (condgen.saved || 0) + 1000 - Date.now());
      condgen.timer = setTimeout(() => {
        condgen.timer = 0;
        condgen.saved = Date.now();
        document.querySelector("#remember")?.click();
      }, wait);
      return [];
    },
    remember: (names, values) => {
      if (condgen.remembers) localStorage.setItem(KEY, JSON.stringify(Object.fromEntries(names.map((name, i) => [name, values[i]]))));
      return [];
    },
    choose: (text) => {  // "Use NAME" on a button: as if NAME were chosen in the header
      const select = document.querySelector("#model select");
      select.value = text.replace(/^Use /, "");
      select.dispatchEvent(new Event("change"));
      return [];
    },
  };
  for (const event of ["pagehide", "beforeunload"])
    window.addEventListener(event, () => condgen.timer && document.querySelector("#remember")?.click());
  // the place in the queue, which the server sends while a request waits, in the line that says "Waiting."
  const fetched = window.fetch;
  window.fetch = async (...request) => {
    const answer = await fetched(...request);
    const url = String((request[0] && request[0].url) || request[0]);
    if (!url.includes("/queue/data") || !answer.body) return answer;
    const decoder = new TextDecoder();
    let rest = "";
    const read = new TransformStream({
      transform(chunk, to) {
        const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
        rest = lines.pop();
        const last = lines.filter((line) => line.includes('"estimation"')).pop();
        if (last) waits(JSON.parse(last.slice(last.indexOf("{"))).rank + 1);
        to.enqueue(chunk);
      },
    });
    return new Response(answer.body.pipeThrough(read), { status: answer.status, headers: answer.headers });
  };
  function waits(before) {
    for (const line of document.querySelectorAll("[role=status]"))
      if (line.offsetParent && /^Waiting\b/.test(line.textContent))
        line.textContent = before > 1 ? `Waiting: ${before} before you.` : "Waiting: yours is next.";
  }
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "Enter") {
      const run = [...document.querySelectorAll(".run")].find((node) => node.offsetParent);
      if (run) { event.preventDefault(); event.stopPropagation(); run.click(); }
    }
  }, true);  // before the focused control, which may read Enter its own way
  // the head of a message of Gradio is a button with a button in it, which screen readers cannot read
  new MutationObserver(() => {
    for (const head of document.querySelectorAll(".toast-header[role=button]")) {
      head.removeAttribute("role");
      head.removeAttribute("tabindex");
    }
  }).observe(document.body, { childList: true, subtree: true });
}
