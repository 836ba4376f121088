// Draws a transcript (gpt/ui/transcript.py tells its lines) and lets the visitor choose alternatives.
// What a model wrote is never trusted: it reaches the page through textContent only.

const ALTERNATIVES = 6;
const SURPRISING = 7; // nats: a token of this log-probability, 0.1 %, gets the full tint
const LEAVE_MS = 220; // time to move the pointer from a token to its alternatives

const view = element.querySelector(".tv");
const text = element.querySelector(".tv-text");
const pop = element.querySelector(".tv-pop");
const title = element.querySelector(".tv-title");
const stats = element.querySelector(".tv-stats");
const copy = element.querySelector(".tv-copy");
const status = element.querySelector(".tv-status");

let drawn = ""; // the part of the value that is on the page
let tokens = []; // {node, text, logprob, alternatives, count}
let place = text; // where the next piece goes
let seed = null;
let open = -1; // the token whose alternatives are shown
let leaving = 0;

const { make, visible } = window.views;
const percent = (logprob) => window.views.percent(Math.exp(logprob));

// --- drawing ---------------------------------------------------------------------------------------------------

function draw() {
  const value = props.value || "";
  if (!value.startsWith(drawn)) erase();
  const end = value.lastIndexOf("\n") + 1;
  if (end === drawn.length) return;
  const atEnd = open < 0 && text.scrollHeight - text.scrollTop - text.clientHeight < 60;
  for (const line of value.slice(drawn.length, end).split("\n")) if (line) append(JSON.parse(line));
  drawn = value.slice(0, end);
  view.classList.toggle("tv-filled", drawn !== "");
  if (atEnd) text.scrollTop = text.scrollHeight;
}

function erase() {
  hide();
  text.replaceChildren();
  title.replaceChildren();
  stats.replaceChildren();
  status.textContent = "";
  view.classList.remove("tv-filled", "tv-ended");
  [drawn, tokens, place, seed] = ["", [], text, null];
}

function append(line) {
  if (Array.isArray(line)) appendToken(...line);
  else if ("plain" in line) place.append(make("span", "tv-plain", line.plain));
  else if ("speaker" in line) {
    const turn = make("div", `tv-turn tv-${line.side === "visitor" ? "visitor" : "model"}`);
    place = make("div", "tv-words");
    turn.append(make("div", "tv-name", line.speaker), place);
    text.append(turn);
  } else if ("seed" in line) seed = line.seed;
  else if ("stats" in line) showStats(...line.stats);
  else if ("title" in line) title.append(make("b", "", line.title), " ", line.figure);
  else if ("note" in line) text.append(make("div", "tv-note", line.note));
  else if ("differs" in line) for (const n of line.differs) tokens[n]?.node.classList.add("tv-differs");
  else if ("end" in line) status.textContent = `Done: ${tokens.length} tokens.`;
  if ("note" in line || "end" in line) view.classList.add("tv-ended");
}

function appendToken(string, logprob, alternatives, count) {
  const node = make("span", "tv-token", string);
  if (logprob !== null) {
    node.style.setProperty("--surprise", Math.min(1, -logprob / count / SURPRISING).toFixed(3));
    node.tabIndex = tokens.length === 0 ? 0 : -1; // one stop for the Tab key; the arrow keys move from there
  }
  if (/^\n+$/.test(string)) node.classList.add("tv-break");
  node.dataset.token = tokens.length;
  tokens.push({ node, text: string, logprob, alternatives: alternatives.slice(0, ALTERNATIVES), count });
  place.append(node);
}

function showStats(number, rate, perplexity) {
  stats.replaceChildren();
  const add = (value, unit, title) => {
    const item = make("span", "tv-stat");
    item.title = title;
    item.dataset.unit = unit;
    item.append(make("b", "", value), ` ${unit}`);
    stats.append(item);
  };
  add(number, number === 1 ? "token" : "tokens", "Tokens that the model wrote");
  if (rate !== null) add(rate, "tokens/s", "Tokens per second, from the first token on");
  if (perplexity !== null) add(perplexity, "perplexity", "How many tokens, on average, the model hesitated between");
  if (seed !== null) {
    const button = make("button", "tv-seed");
    button.type = "button";
    button.title = "Use this seed again";
    button.append("seed ", make("b", "", seed));
    button.onclick = () => trigger("reuse", { seed });
    stats.append(button);
  }
}

// --- alternatives ----------------------------------------------------------------------------------------------

function show(number) {
  clearTimeout(leaving);
  if (number === open) return;
  hide();
  const token = tokens[number];
  if (!token || token.logprob === null) return;
  open = number;
  token.node.classList.add("tv-open");
  const head = make("div", "tv-pop-head");
  head.append(make("code", "", visible(token.text)), make("span", "", percent(token.logprob)));
  pop.replaceChildren(head);
  let chosen = false;
  token.alternatives.forEach(([string, logprob], n) => {
    const row = make("button", "tv-alternative");
    row.type = "button";
    const bar = make("i", "");
    bar.style.width = `${100 * Math.exp(logprob)}%`;
    row.append(bar, make("code", "", visible(string)), make("span", "", percent(logprob)));
    if (!chosen && string === token.text) {
      chosen = true;
      row.classList.add("tv-chosen");
      row.setAttribute("aria-current", "true");
    }
    row.disabled = !props.stop || string === "" || string.includes("\ufffd"); // a part of a character cannot be continued from
    row.onclick = () => choose(number, n);
    pop.append(row);
  });
  if (token.alternatives.length && props.stop) pop.append(make("div", "tv-pop-foot", "Choose one to continue from it"));
  pop.hidden = false;
  arrange(token.node);
}

function arrange(node) {
  // Below the token, or above where there is no room; never out of the window.
  const box = node.getClientRects()[0] || node.getBoundingClientRect();
  const { width, height } = pop.getBoundingClientRect();
  const left = Math.min(Math.max(8, box.left), document.documentElement.clientWidth - width - 8);
  const below = box.bottom + height + 10 < window.innerHeight || box.top < height + 10;
  pop.style.left = `${left}px`;
  pop.style.top = `${below ? box.bottom + 4 : box.top - height - 4}px`;
}

function hide() {
  clearTimeout(leaving);
  tokens[open]?.node.classList.remove("tv-open");
  open = -1;
  pop.hidden = true;
}

function leave() {
  clearTimeout(leaving);
  leaving = setTimeout(hide, LEAVE_MS);
}

function choose(token, alternative) {
  hide();
  const stop = document.querySelector(props.stop);
  const running = () => stop && !stop.disabled;
  if (running()) stop.click();
  // Once the button is idle again, the old text's place is free and the new request can start.
  const began = Date.now();
  const start = () => {
    if (!running()) trigger("select", { token, alternative });
    else if (Date.now() - began < 10000) setTimeout(start, 30);
  };
  start();
}

// --- pointer ---------------------------------------------------------------------------------------------------

const tokenOf = (event) => event.target.closest?.(".tv-token");
let touch = false;

text.addEventListener("pointerover", (event) => {
  if (event.pointerType === "touch" || event.buttons) return; // a finger taps; a pressed button selects text
  if (tokenOf(event)) show(Number(tokenOf(event).dataset.token));
  else leave();
});
text.addEventListener("pointerleave", leave);
text.addEventListener("pointerdown", (event) => {
  touch = event.pointerType === "touch";
  if (!touch) hide();
});
text.addEventListener("click", (event) => {
  const node = tokenOf(event);
  if (!node || !window.getSelection().isCollapsed) return;
  if (touch && Number(node.dataset.token) === open) hide();
  else show(Number(node.dataset.token));
});
pop.addEventListener("pointerenter", () => clearTimeout(leaving));
pop.addEventListener("pointerleave", (event) => event.pointerType !== "touch" && leave());
const away = (event) => open >= 0 && !element.contains(event.target) && hide();
document.addEventListener("pointerdown", away);
document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
// The alternatives stay beside their token while the page scrolls, and go when the text scrolls it out of sight.
const follow = () => {
  if (open < 0) return;
  const [box, frame] = [tokens[open].node.getBoundingClientRect(), text.getBoundingClientRect()];
  if (box.bottom < frame.top || box.top > frame.bottom) hide();
  else arrange(tokens[open].node);
};
window.addEventListener("scroll", follow, { passive: true });
text.addEventListener("scroll", follow, { passive: true });

// --- keyboard --------------------------------------------------------------------------------------------------

text.addEventListener("focusin", (event) => {
  if (tokenOf(event)?.matches(":focus-visible")) show(Number(tokenOf(event).dataset.token));
});
element.addEventListener("focusout", (event) => !element.contains(event.relatedTarget) && leave());
element.addEventListener("keydown", (event) => {
  const node = tokenOf(event);
  const rows = [...pop.querySelectorAll("button:not(:disabled)")];
  const row = rows.indexOf(event.target);
  if (event.key === "Escape" && open >= 0) {
    if (row >= 0) tokens[open].node.focus();
    hide();
    event.stopPropagation(); // the page's own Escape stops the text
  } else if (node && ["ArrowRight", "ArrowLeft"].includes(event.key)) {
    const next = tokens[Number(node.dataset.token) + (event.key === "ArrowRight" ? 1 : -1)];
    if (!next) return;
    node.tabIndex = -1;
    next.node.tabIndex = 0;
    next.node.focus();
  } else if (node && ["ArrowDown", "Enter"].includes(event.key) && !event.ctrlKey && !event.metaKey) {
    show(Number(node.dataset.token));
    pop.querySelector("button:not(:disabled)")?.focus();
  } else if (row >= 0 && ["ArrowDown", "ArrowUp"].includes(event.key)) {
    rows[(row + (event.key === "ArrowDown" ? 1 : rows.length - 1)) % rows.length].focus();
  } else return;
  event.preventDefault();
});

// --- copying ---------------------------------------------------------------------------------------------------

const wholeText = () =>
  [...text.children]
    .filter((node) => !node.matches(".tv-note"))
    .map((node) => {
      if (!node.matches(".tv-turn")) return node.textContent;
      return `${node.querySelector(".tv-name").textContent}:\n${node.querySelector(".tv-words").textContent}\n\n`;
    })
    .join("");

// A selection is copied as text alone, without the tints.
text.addEventListener("copy", (event) => {
  event.clipboardData.setData("text/plain", window.getSelection().toString());
  event.preventDefault();
});

copy.addEventListener("click", async () => {
  await window.views.copy(wholeText());
  copy.textContent = "Copied";
  setTimeout(() => (copy.textContent = "Copy text"), 1500);
});

watch("value", draw);
draw();
