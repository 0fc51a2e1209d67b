() => {
  const KEY = "condgen-studio";
  window.condgen = {
    remembers: false,
    memory: () => [localStorage.getItem(KEY) || "{}"],
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
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "Enter") {
      const run = [...document.querySelectorAll(".run")].find((node) => node.offsetParent);
      if (run) { event.preventDefault(); run.click(); }
    }
  });
}
