// Draws a run (train/ui/run_view.py tells its value): progress, the curve as it grows, the samples to scroll through.
// What a model wrote is never trusted: it reaches the page through textContent only.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 260;
const MARGIN = { top: 30, right: 16, bottom: 28, left: 40 };

const view = element.querySelector(".rv");
const find = (name) => element.querySelector(`.rv-${name}`);
const svg = element.querySelector("svg");
const scrub = find("scrub");
const tip = find("tip");

let run = null;
let chosen = -1; // the sample that the visitor chose; -1 follows the newest
let places = []; // of the points on the chart: {x, step, val, train}

const make = (tag, attributes, content = "") => {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = content;
  return node;
};
const count = (number) => Math.round(number).toLocaleString("en");
const time = (seconds) => {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.round((whole % 3600) / 60)} min`;
};

function draw() {
  const before = run;
  run = props.value ? JSON.parse(props.value) : null;
  view.classList.toggle("rv-filled", run !== null);
  if (!run) return;
  if (!before || before.name !== run.name) chosen = -1;
  find("name").textContent = run.name;
  const state = find("state");
  state.textContent = run.words;
  state.className = `rv-state rv-${run.state}`;
  find("facts").textContent = run.facts;
  drawProgress();
  find("message").textContent = run.message;
  find("message").hidden = !run.message;
  find("message").classList.toggle("rv-calm", run.state === "paused");
  drawFigures();
  drawChart();
  drawSample();
}

function drawProgress() {
  const share = run.scored ?? (run.steps ? run.step / run.steps : 0);
  const bar = find("bar");
  bar.querySelector("i").style.width = `${(100 * share).toFixed(1)}%`;
  bar.setAttribute("aria-valuenow", Math.round(100 * share));
  find("step").textContent = run.steps ? `Step ${count(run.step)} of ${count(run.steps)}` : "";
  find("left").textContent =
    run.left !== null ? `${time(run.left)} left` : run.scored !== null ? `scored ${Math.round(100 * run.scored)} %`
    : run.seconds ? `${time(run.seconds)} of training` : "";
  find("rate").textContent = run.rate ? `${count(run.rate)} tokens per second` : "";
}

function drawFigures() {
  const figures = find("figures");
  const items = [];
  if (run.figures.sliding) items.push([run.figures.sliding.toFixed(3), "whole validation text, sliding", "rv-final"]);
  if (run.best) items.push([run.best[1].toFixed(3), `${run.state === "finished" ? "best" : "best so far"}, step ${count(run.best[0])}`, ""]);
  if (run.line) items.push([run.line.toFixed(3), `${run.order}-gram, the line to beat`, "rv-line"]);
  figures.replaceChildren(
    ...items.map(([number, words, kind]) => {
      const item = document.createElement("div");
      item.className = `rv-figure ${kind}`;
      const strong = document.createElement("b");
      strong.textContent = number;
      item.append(strong, ` ${words}`);
      return item;
    }),
  );
  if (run.passed) {
    const badge = document.createElement("div");
    badge.className = "rv-passed";
    const after = run.passed[1] === null ? "" : ` after ${time(run.passed[1])}`;
    badge.textContent = `\u2713 Better than counting: passed the ${run.order}-gram at step ${count(run.passed[0])}${after}`;
    figures.append(badge);
  }
}

// --- the chart -------------------------------------------------------------------------------------------------

function drawChart() {
  const width = Math.max(280, svg.parentElement.clientWidth);
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  svg.setAttribute("height", HEIGHT);
  const all = [...run.train, ...run.val];
  find("chart").hidden = all.length < 2;
  if (all.length < 2) return svg.replaceChildren();
  const settled = all.filter(([step]) => step > 0.02 * run.step).map(([, loss]) => loss);
  const highest = Math.max(...(settled.length > 4 ? settled : all.map(([, loss]) => loss)), run.line ?? 0);
  const lowest = Math.min(...all.map(([, loss]) => loss), run.line ?? Infinity);
  const room = 0.06 * (highest - lowest) + 0.02;
  const last = Math.max(run.steps, run.step, 1);
  const x = (step) => MARGIN.left + ((width - MARGIN.left - MARGIN.right) * step) / last;
  const y = (loss) => {
    const share = (highest + room - loss) / (highest - lowest + 2 * room);
    return MARGIN.top + (HEIGHT - MARGIN.top - MARGIN.bottom) * Math.min(1.02, Math.max(-0.02, share));
  };
  const path = (points) => points.map(([step, loss], at) => `${at ? "L" : "M"}${x(step).toFixed(1)} ${y(loss).toFixed(1)}`).join("");
  const nodes = [];
  for (const loss of ticks(lowest, highest, 5)) {
    nodes.push(make("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: y(loss), y2: y(loss), class: "rv-grid" }));
    nodes.push(make("text", { x: MARGIN.left - 6, y: y(loss) + 4, class: "rv-tick rv-tick-y" }, loss.toFixed(1)));
  }
  for (const step of ticks(0, last, width < 500 ? 4 : 7))
    nodes.push(make("text", { x: x(step), y: HEIGHT - 10, class: "rv-tick rv-tick-x" }, count(step)));
  if (run.line !== null) {
    nodes.push(make("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: y(run.line), y2: y(run.line), class: "rv-beat" }));
    nodes.push(make("text", { x: width - MARGIN.right, y: y(run.line) - 5, class: "rv-beat-name" }, `${run.order}-gram ${run.line.toFixed(3)}`));
  }
  nodes.push(make("path", { d: path(run.train), class: "rv-train" }), make("path", { d: path(run.val), class: "rv-val" }));
  for (const [step, loss] of run.val) {
    const isBest = run.best && step === run.best[0];
    nodes.push(make("circle", { cx: x(step), cy: y(loss), r: isBest ? 5 : 2.5, class: isBest ? "rv-dot rv-dot-best" : "rv-dot" }));
  }
  nodes.push(make("text", { x: 0, y: 14, class: "rv-tick" }, "nats per character"));
  const legend = make("text", { x: width - MARGIN.right, y: 14, class: "rv-legend" });
  legend.append(make("tspan", { class: "rv-legend-train" }, "training  "), make("tspan", { class: "rv-legend-val" }, "validation"));
  nodes.push(legend, make("line", { y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom, class: "rv-guide", visibility: "hidden" }));
  svg.replaceChildren(...nodes);
  const end = run.val.at(-1);
  svg.setAttribute(
    "aria-label",
    `Loss in nats per character over ${count(run.step)} steps` +
      (end ? `; validation loss from ${run.val[0][1].toFixed(2)} to ${end[1].toFixed(2)}` : ""),
  );
  const at = new Map();
  for (const [step, loss] of run.train) at.set(step, { x: x(step), step, train: loss });
  for (const [step, loss] of run.val) at.set(step, { ...at.get(step), x: x(step), step, val: loss });
  places = [...at.values()].sort((one, other) => one.x - other.x);
}

function ticks(low, high, most) {
  const rough = (high - low || 1) / most;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 5, 10].find((factor) => factor * unit >= rough) * unit;
  const found = [];
  for (let at = Math.ceil(low / size) * size; at <= high + 1e-9; at += size) found.push(at);
  return found;
}

svg.addEventListener("pointermove", (event) => {
  if (!places.length) return;
  const box = svg.getBoundingClientRect();
  const at = ((event.clientX - box.left) * svg.viewBox.baseVal.width) / box.width;
  const place = places.reduce((one, other) => (Math.abs(other.x - at) < Math.abs(one.x - at) ? other : one));
  const guide = svg.querySelector(".rv-guide");
  guide.setAttribute("x1", place.x);
  guide.setAttribute("x2", place.x);
  guide.setAttribute("visibility", "visible");
  tip.hidden = false;
  tip.textContent =
    `step ${count(place.step)}` +
    (place.train === undefined ? "" : `\ntraining ${place.train.toFixed(3)}`) +
    (place.val === undefined ? "" : `\nvalidation ${place.val.toFixed(3)}`);
  const left = (place.x * box.width) / svg.viewBox.baseVal.width;
  tip.style.left = `${left}px`;
  tip.classList.toggle("rv-tip-left", left > box.width / 2);
});
svg.addEventListener("pointerleave", () => {
  tip.hidden = true;
  svg.querySelector(".rv-guide")?.setAttribute("visibility", "hidden");
});

// --- the samples -----------------------------------------------------------------------------------------------

function drawSample() {
  const { samples } = run;
  find("samples").hidden = !samples.length;
  if (!samples.length) return;
  if (chosen >= samples.length - 1) chosen = -1;
  const shown = chosen < 0 ? samples.length - 1 : chosen;
  const [step, text, loss] = samples[shown];
  scrub.max = samples.length - 1;
  scrub.value = shown;
  const words = `step ${count(step)}${loss === null ? "" : `, ${loss.toFixed(3)}`}`;
  scrub.setAttribute("aria-valuetext", words);
  find("samples-step").textContent = words;
  find("earlier").disabled = shown === 0;
  find("later").disabled = shown === samples.length - 1;
  const pre = find("text");
  const trimmed = text.replace(/^\n+/, "");
  if (pre.textContent !== trimmed) pre.textContent = trimmed;
}

function choose(number) {
  chosen = Math.max(0, Math.min(run.samples.length - 1, number));
  drawSample();
}
scrub.addEventListener("input", () => choose(Number(scrub.value)));
find("earlier").addEventListener("click", () => choose(Number(scrub.value) - 1));
find("later").addEventListener("click", () => choose(Number(scrub.value) + 1));

new ResizeObserver(() => run && drawChart()).observe(find("chart"));
watch("value", draw);
draw();
