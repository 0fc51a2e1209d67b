const root = element.querySelector(".cg");
root.classList.add("tr-film");
const image = el("img", { alt: "" });
const play = el("button", { type: "button" }, "Play");
const slider = el("input", { type: "range", min: 0, step: 1 });
slider.setAttribute("aria-label", "Sample sheet");
const caption = el("p", {});
root.append(image, el("div", { className: "tr-controls" }, play, slider), caption);
let timer = 0, built = "";

function stop() { clearInterval(timer); timer = 0; play.textContent = "Play"; }
function show(place) {
  const frame = (props.value || [])[place];
  if (!frame) return;
  slider.value = place;
  image.src = fileUrl(frame.url);
  image.alt = `Sample sheet, ${frame.caption}`;
  caption.textContent = frame.caption;
  slider.setAttribute("aria-valuetext", frame.caption);
}
play.addEventListener("click", () => {
  if (timer) return stop();
  const frames = props.value || [];
  let place = +slider.value + 1 < frames.length ? +slider.value : -1;
  play.textContent = "Pause";
  timer = setInterval(() => {
    if (!root.isConnected || place + 1 >= (props.value || []).length) return stop();
    show(++place);
  }, 500);
});
slider.addEventListener("input", () => { stop(); show(+slider.value); });
function render() {
  const frames = props.value || [], state = JSON.stringify(frames.map((frame) => frame.url));
  root.hidden = !frames.length;
  if (state === built) return;
  const last = !built || +slider.value === +slider.max;
  built = state;
  slider.max = Math.max(0, frames.length - 1);
  play.disabled = frames.length < 2;
  if (!timer) show(last || +slider.value >= frames.length ? frames.length - 1 : +slider.value);
}
watch(["value"], render);
render();
