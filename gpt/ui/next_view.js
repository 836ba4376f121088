// Draws the next token's distribution: a pale bar for what the model says, a full one for what the filters leave of it.
const { make, visible, percent } = window.views;
const NAMES = { temperature: "temperature 0", top_k: "top-k", top_p: "top-p", min_p: "min-p" };
const place = element.querySelector(".next-rows");
const summary = element.querySelector(".next-summary");

function draw() {
  const seen = JSON.parse(props.value || "null");
  place.replaceChildren();
  summary.textContent = seen?.error || "";
  if (!seen?.tokens) return;
  const [, topK, topP, minP] = seen.left.map((count) => count.toLocaleString("en"));
  summary.textContent =
    `Of ${seen.vocab_dim.toLocaleString("en")} tokens, ${topK} are left after top-k, ${topP} after top-p` +
    ` and ${minP} after min-p.`;
  const titles = make("div", "next-row next-titles");
  titles.append(make("code", ""), make("div", ""), make("span", "", "model"), make("b", "", "drawn"));
  titles.setAttribute("aria-hidden", "true");
  place.append(titles);
  const scale = 1 / Math.max(...seen.tokens.flatMap(([, probability, drawn]) => [probability, drawn]));
  for (const [text, probability, drawn, removedBy] of seen.tokens) {
    const row = make("div", `next-row${removedBy ? " next-removed" : ""}`);
    const bars = make("div", "next-bars");
    for (const [name, share] of [["next-raw", probability], ["next-drawn", drawn]]) {
      const bar = make("i", name);
      bar.style.width = `${100 * share * scale}%`;
      bars.append(bar);
    }
    const after = removedBy ? `out: ${NAMES[removedBy]}` : percent(drawn);
    row.append(make("code", "", visible(text)), bars, make("span", "", percent(probability)), make("b", "", after));
    row.setAttribute("role", "listitem");
    row.setAttribute("aria-label", `${text}: the model says ${percent(probability)}, drawn: ${after}`);
    place.append(row);
  }
  if (seen.others)
    place.append(make("div", "next-rest", `and ${seen.others.toLocaleString("en")} more, ${percent(seen.others_drawn)} together`));
}
watch("value", draw);
draw();
