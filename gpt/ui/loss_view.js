// Draws each token of a text over its loss; pointing, a tap or the arrow keys tell what the model had expected.
const { make, visible, percent, hint } = window.views;
const SURPRISING = 7; // nats: a loss of this size, 0.1 %, gets the full tint
const text = element.querySelector(".loss-text");
const sum = element.querySelector(".loss-sum");
let nodes = [];

function draw() {
  const seen = JSON.parse(props.value || "null");
  text.replaceChildren();
  sum.replaceChildren();
  nodes = [];
  if (!seen) return;
  for (const [value, unit] of seen.sums) sum.append(make("b", "", value), ` ${unit} `);
  seen.tokens.forEach((token, n) => {
    const logprob = seen.logprobs[n];
    const node = make("span", "loss-token");
    node.append(make("code", "", visible(token)), make("small", "", logprob === null ? "–" : (-logprob).toFixed(1)));
    if (logprob !== null) node.style.setProperty("--surprise", Math.min(1, -logprob / SURPRISING).toFixed(3));
    node.tabIndex = n ? -1 : 0;
    node.explain = () => {
      const head = make("div", "hint-head");
      const words = logprob === null ? "The first token: nothing before it to guess it from." : "";
      head.append(make("code", "", visible(token)), words || make("span", "", `${percent(Math.exp(logprob))}, rank ${seen.ranks[n]}`));
      const rows = n ? [make("div", "hint-foot", "The model had expected"), ...window.views.guesses(seen.guesses[n - 1], token)] : [];
      hint.show(node.getBoundingClientRect(), [head, ...rows]);
    };
    nodes.push(node);
    text.append(node, token.includes("\n") ? make("br", "") : "");
  });
}

const tokenOf = (event) => event.target.closest?.(".loss-token");
for (const name of ["pointerover", "focusin", "click"])
  text.addEventListener(name, (event) => (tokenOf(event) ? tokenOf(event).explain() : hint.hide()));
for (const name of ["pointerleave", "focusout"]) text.addEventListener(name, () => hint.hide());
text.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const next = step && nodes[nodes.indexOf(tokenOf(event)) + step];
  if (!next) return;
  event.preventDefault();
  tokenOf(event).tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});
watch("value", draw);
draw();
