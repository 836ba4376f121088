// Draws what each layer would say next: a row for each token, a column for each layer, the likeliest token in each cell.
const { make, visible, hint } = window.views;
const frame = element.querySelector(".layers-frame");
let cells = []; // rows of cells

function draw() {
  const seen = JSON.parse(props.value || "null");
  frame.replaceChildren();
  cells = [];
  if (!seen) return;
  const table = make("table", "layers");
  const last = seen.guesses.length - 1;
  const head = make("tr", "");
  head.append(make("th", "", "after"));
  seen.guesses.forEach((_, layer) => {
    const name = layer === 0 ? "no layer" : layer === last ? `layer ${layer}: its answer` : `layer ${layer}`;
    const cell = make("th", "", name);
    cell.scope = "col";
    head.append(cell);
  });
  table.append(make("thead", ""), make("tbody", ""));
  table.tHead.append(head);
  seen.tokens.forEach((token, n) => {
    const row = make("tr", "");
    const name = make("th", "");
    name.scope = "row";
    name.append(make("code", "", visible(token)));
    row.append(name);
    cells.push(
      seen.guesses.map((layer, number) => {
        const [text, share] = layer[n][0];
        const cell = make("td", text === seen.tokens[n + 1] ? "layers-right" : "");
        cell.append(make("code", "", visible(text)));
        cell.style.setProperty("--share", share.toFixed(3));
        cell.tabIndex = -1;
        cell.explain = () => {
          const words = number ? `After ${visible(token)}, layer ${number} would say` : `${visible(token)} alone would say`;
          const came = n + 1 < seen.tokens.length ? [make("div", "hint-foot", `What came: ${visible(seen.tokens[n + 1])}`)] : [];
          hint.show(cell.getBoundingClientRect(), [make("div", "hint-foot", words), ...window.views.guesses(layer[n], seen.tokens[n + 1]), ...came]);
        };
        cell.place = [n, number];
        row.append(cell);
        return cell;
      }),
    );
    table.tBodies[0].append(row);
  });
  cells[0][0].tabIndex = 0;
  frame.append(table);
  frame.scrollTop = frame.scrollHeight; // the last row is what the model says now
}

const cellOf = (event) => event.target.closest?.("td");
for (const name of ["pointerover", "focusin", "click"])
  frame.addEventListener(name, (event) => (cellOf(event) ? cellOf(event).explain() : hint.hide()));
for (const name of ["pointerleave", "focusout"]) frame.addEventListener(name, () => hint.hide());
frame.addEventListener("keydown", (event) => {
  const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
  const cell = cellOf(event);
  if (!step || !cell) return;
  event.preventDefault();
  const next = cells[cell.place[0] + step[0]]?.[cell.place[1] + step[1]];
  if (!next) return;
  cell.tabIndex = -1;
  next.tabIndex = 0;
  next.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest", inline: "nearest" });
  setTimeout(() => next.explain(), 30); // scrolling hides the hint
});
window.views.sideways(frame);
watch("value", draw);
draw();
