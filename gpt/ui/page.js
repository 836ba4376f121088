// The page's keyboard: Ctrl+Enter (or Cmd+Enter) writes, Escape stops.
const STARTS = "#generate, #say, #inspect, #compare";
const STOPS = "#stop, #dialogue-stop, #compare-stop";
document.addEventListener("keydown", (event) => {
  const starts = event.key === "Enter" && (event.ctrlKey || event.metaKey);
  if (!starts && event.key !== "Escape") return;
  // Of the buttons of tabs and modes only the shown one's has a place on the page.
  const button = [...document.querySelectorAll(starts ? STARTS : STOPS)].find(
    (found) => found.offsetParent !== null && !found.disabled,
  );
  if (!button) return;
  event.preventDefault();
  button.click();
});

// What the views' scripts share. Text of models and visitors reaches the page through textContent only.
window.views = {
  make(tag, className, content = "") {
    const node = document.createElement(tag);
    node.className = className;
    node.textContent = content;
    return node;
  },
  visible: (string) => string.replaceAll(" ", "\u00b7").replaceAll("\n", "\u21b5").replaceAll("\t", "\u21e5"),
  percent(share) {
    if (share <= 0) return "0 %";
    return share < 0.001 ? "<0.1 %" : `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
  },
  async copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without https the clipboard is closed to scripts everywhere but on localhost; a hidden field still works.
      const field = this.make("textarea", "tv-clip");
      field.value = text;
      document.body.append(field);
      field.select();
      document.execCommand("copy");
      field.remove();
    }
  },
  // A box beside what it explains: shown on hover, tap and focus; one for the whole page.
  hint: {
    show(box, lines) {
      this.node ||= document.body.appendChild(window.views.make("div", "hint"));
      this.node.setAttribute("role", "status");
      this.node.replaceChildren(...lines);
      this.node.hidden = false;
      const { width, height } = this.node.getBoundingClientRect();
      const room = document.documentElement.clientWidth - width - 8;
      const below = box.bottom + height + 12 < window.innerHeight || box.top < height + 12;
      this.node.style.left = `${Math.max(8, Math.min(box.left, room))}px`;
      this.node.style.top = `${below ? box.bottom + 6 : box.top - height - 6}px`;
    },
    hide() {
      if (this.node) this.node.hidden = true;
    },
  },
  // Where a frame is wider than its place: a line above it says so, and its right edge fades while more lies there.
  sideways(frame) {
    const line = this.make("p", "sideways", "Scroll sideways for more \u2192");
    frame.before(line);
    const look = () => {
      const hidden = frame.scrollWidth - frame.clientWidth;
      line.hidden = hidden < 2;
      frame.classList.toggle("sideways-more", frame.scrollLeft < hidden - 1);
    };
    frame.addEventListener("scroll", look, { passive: true });
    new ResizeObserver(look).observe(frame);
    new MutationObserver(look).observe(frame, { childList: true, subtree: true });
    look();
  },
  // Rows of a hint: guesses with their probability as text and bar, the one that came marked.
  guesses(list, actual) {
    return list.map(([text, share]) => {
      const row = this.make("div", `hint-row${text === actual ? " hint-actual" : ""}`);
      const bar = this.make("i", "");
      bar.style.width = `${100 * share}%`;
      row.append(bar, this.make("code", "", this.visible(text)), this.make("span", "", this.percent(share)));
      return row;
    });
  },
};
document.addEventListener("keydown", (event) => event.key === "Escape" && window.views.hint.hide());
document.addEventListener("scroll", () => window.views.hint.hide(), { passive: true, capture: true });

// --- sharing and saving ----------------------------------------------------------------------------------------

// A link into the page that is open would only change the address; read it as when the page opens.
window.addEventListener("hashchange", () => location.hash && location.reload());

function flash(selector, words) {
  const button = document.querySelector(selector);
  button.dataset.words ||= button.textContent;
  button.textContent = words;
  setTimeout(() => (button.textContent = button.dataset.words), 1500);
}

// Fields as a link's fragment, which no server sees. A seed still to be drawn is that of the text that is shown.
window.views.share = async (selector, names, [live, shown, ...values]) => {
  const fields = Object.fromEntries(names.map((name, n) => [name, values[n]]));
  for (const name of ["checkpoint", "a", "b"]) if (names.includes(name)) fields[name] ||= live;
  if (Number(fields.seed) === -1) fields.seed = /^\{"seed":"(\d+)"\}$/m.exec(shown || "")?.[1] ?? "";
  for (const name of names) if (fields[name] === "" || fields[name] == null) delete fields[name];
  await window.views.copy(`${location.href.split("#")[0]}#${new URLSearchParams(fields)}`);
  flash(selector, "Link copied");
};

window.views.save = (selector, value, kind) => {
  const turns = [];
  let seed = null;
  for (const line of (value || "").split("\n").filter(Boolean).map((one) => JSON.parse(one))) {
    if (Array.isArray(line)) {
      turns.at(-1).text += line[0];
      (turns.at(-1).tokens ||= []).push({ text: line[0], logprob: line[1] });
    } else if ("speaker" in line) turns.push({ speaker: line.speaker, side: line.side, text: "" });
    else if ("plain" in line) turns.at(-1).text += line.plain;
    else if ("seed" in line) ({ seed } = line);
  }
  if (!turns.length) return flash(selector, "Nothing to save yet");
  const text = () => turns.map((turn) => `${turn.speaker}:\n${turn.text.trim()}\n`).join("\n");
  const content = kind === "json" ? `${JSON.stringify({ seed, turns }, null, 2)}\n` : text();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: kind === "json" ? "application/json" : "text/plain" }));
  link.download = `conversation.${kind}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
};
