// Draws the attention of every head small, and of one large with its tokens on both axes.
// A canvas has one pixel a pair of tokens; the style sheet makes it as large as it should be.
const { make, visible, percent, hint } = window.views;
const [small, large, title] = [".attention-heads", ".attention-large", ".attention-title"].map((name) => element.querySelector(name));
let seen = null; // {tokens, layers, heads}
let weights = null; // 0..65535, of each head the rows up to the diagonal
let chosen = 0; // the head shown large, layer by layer
let cursor = null; // [row, column]
let grid, canvas, mark;

const size = () => seen.tokens.length;
const pairs = () => (size() * (size() + 1)) / 2;
const weight = (head, row, column) => weights[head * pairs() + (row * (row + 1)) / 2 + column] / 65535;
const called = (head) => `Layer ${Math.floor(head / seen.heads) + 1}, head ${(head % seen.heads) + 1}`;

function paint(head) {
  const painted = make("canvas", "");
  painted.width = painted.height = size();
  const context = painted.getContext("2d");
  const image = context.createImageData(size(), size());
  for (let row = 0; row < size(); row++)
    for (let column = 0; column < size(); column++) {
      // The square root makes small weights visible. What a token cannot look at is grey.
      const pixel = column > row ? [148, 163, 184, 40] : [99, 102, 241, 255 * Math.sqrt(weight(head, row, column))];
      image.data.set(pixel, 4 * (row * size() + column));
    }
  context.putImageData(image, 0, 0);
  return painted;
}

function draw() {
  hint.hide();
  small.replaceChildren();
  large.replaceChildren();
  title.textContent = "";
  seen = JSON.parse(props.value || "null");
  if (!seen) return;
  const bytes = Uint8Array.from(atob(seen.weights), (character) => character.charCodeAt(0));
  weights = new Uint16Array(bytes.buffer);
  cursor = null;
  chosen = Math.min(chosen, seen.layers * seen.heads - 1);
  small.style.setProperty("--heads", seen.heads);
  for (let head = 0; head < seen.layers * seen.heads; head++) {
    const button = make("button", "attention-head");
    button.type = "button";
    button.title = called(head);
    button.setAttribute("aria-label", called(head));
    button.append(paint(head));
    button.onclick = () => choose(head);
    small.append(button);
  }
  grid = make("div", "attention-grid");
  grid.style.setProperty("--tokens", size());
  const [columns, rows] = ["attention-columns", "attention-rows"].map((name) => {
    const labels = make("div", name);
    for (const token of seen.tokens) labels.append(make("code", "", visible(token)));
    return labels;
  });
  const board = make("div", "attention-board");
  board.tabIndex = 0;
  board.setAttribute("role", "application");
  board.setAttribute("aria-label", "Attention of one head; the arrow keys move from pair to pair");
  mark = make("i", "attention-mark");
  canvas = make("canvas", "");
  board.append(canvas, mark);
  board.onpointermove = board.onclick = (event) => {
    const box = board.getBoundingClientRect();
    const at = (part, whole) => Math.min(size() - 1, Math.max(0, Math.floor((size() * part) / whole)));
    point(at(event.clientY - box.top, box.height), at(event.clientX - box.left, box.width));
  };
  board.onpointerleave = board.onblur = leave;
  board.onkeydown = (event) => {
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    if (!step) return;
    event.preventDefault();
    const [row, column] = cursor || [size() - 1, size() - 1];
    const next = cursor ? [row + step[0], column + step[1]] : [row, column];
    if (next.every((n) => n >= 0 && n < size())) point(...next);
  };
  grid.append(make("span", ""), columns, rows, board);
  large.append(grid);
  choose(chosen);
}

function choose(head) {
  chosen = head;
  [...small.children].forEach((button, n) => button.setAttribute("aria-pressed", n === head));
  title.textContent = called(head);
  const painted = paint(head);
  canvas.replaceWith(painted);
  canvas = painted;
  leave();
}

function point(row, column) {
  cursor = [row, column];
  mark.style.display = "block";
  mark.style.left = `${(100 * column) / size()}%`;
  mark.style.top = `${(100 * row) / size()}%`;
  const [columns, rows] = [grid.children[1].children, grid.children[2].children];
  for (const [labels, n] of [[columns, column], [rows, row]])
    [...labels].forEach((label, place) => label.classList.toggle("attention-on", place === n));
  const words = column > row ? " cannot look at " : " looks at ";
  const share = column > row ? "which comes later" : `with ${percent(weight(chosen, row, column))}`;
  const line = make("div", "hint-head");
  const sentence = make("span", "");
  sentence.append(make("code", "", visible(seen.tokens[row])), words, make("code", "", visible(seen.tokens[column])), ` ${share}`);
  line.append(sentence);
  hint.show(mark.getBoundingClientRect(), [line]);
}

function leave() {
  cursor = null;
  mark.style.display = "none";
  grid.querySelectorAll(".attention-on").forEach((label) => label.classList.remove("attention-on"));
  hint.hide();
}

for (const frame of [small, large]) window.views.sideways(frame);
watch("value", draw);
draw();
