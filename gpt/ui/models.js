// The Models tab: draws the cards, asks before it renames or deletes, shows model cards, sends zips, pulls from the Hub.
// Names, errors and whatever else a stranger may have written reach the page through textContent; the cards and a
// model card's HTML are escaped by the server.

const cards = element.querySelector(".models-cards");
const status = element.querySelector(".models-status");
const picker = element.querySelector("input[type=file]");
const sender = element.querySelector(".models-upload");
const [renaming, deleting, reading] = ["rename", "delete", "card"].map((name) =>
  element.querySelector(`dialog[data-dialog=${name}]`),
);
const UNREACHABLE = "The server does not answer; look whether it still runs, and try again.";

let chosen = ""; // the checkpoint that a dialog is about
let sending = null; // the request that carries a zip

function draw() {
  cards.innerHTML = props.value || "";
}

function say(words, { bad = false } = {}) {
  status.textContent = words;
  status.classList.toggle("bad", bad);
}

// --- the cards' buttons ----------------------------------------------------------------------------------------

const ACTIONS = {
  use: (name) => trigger("use", { name }),
  rename: (name) => {
    open(renaming, name);
    const field = renaming.querySelector("input");
    field.value = name;
    field.select();
  },
  delete: (name, button) => {
    open(deleting, name);
    deleting.querySelector(".sheet-question").textContent = button.dataset.question;
  },
  card: async (name) => {
    open(reading, name);
    const text = reading.querySelector(".card-text");
    text.textContent = "Reading…";
    const answer = (await server.show_card(name)) || { error: UNREACHABLE };
    if (chosen !== name) return;
    if (answer.error) text.textContent = answer.error;
    else text.innerHTML = answer.html;
    text.scrollTop = 0;
  },
};

cards.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-action]");
  if (button) ACTIONS[button.dataset.action](button.dataset.name, button);
});

// --- dialogs ---------------------------------------------------------------------------------------------------

function open(dialog, name) {
  chosen = name;
  for (const place of dialog.querySelectorAll(".sheet-name")) place.textContent = name;
  complain(dialog, "");
  dialog.showModal();
}

function complain(dialog, words) {
  const place = dialog.querySelector(".sheet-error");
  if (place) place.textContent = words;
}

// Asks the server; its refusal stays in the dialog, whose buttons rest meanwhile.
async function ask(dialog, question, done) {
  const controls = [...dialog.querySelectorAll("button, input")];
  controls.forEach((control) => (control.disabled = true));
  const answer = (await question) || { error: UNREACHABLE };
  controls.forEach((control) => (control.disabled = false));
  if (answer.error) {
    complain(dialog, answer.error);
    dialog.querySelector("input, .yes").focus();
    return;
  }
  dialog.close();
  say(done);
  status.focus();
  trigger("changed", {});
}

renaming.querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = renaming.querySelector("input").value.trim();
  if (name === chosen) renaming.close();
  else ask(renaming, server.rename_checkpoint([chosen, name]), `${chosen} is called ${name} now.`);
});

deleting.querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  ask(deleting, server.delete_checkpoint(chosen), `${chosen} is deleted.`);
});

for (const dialog of [renaming, deleting, reading]) {
  dialog.addEventListener("click", (event) => {
    // The dialog itself is hit where its backdrop is.
    if (event.target === dialog || event.target.closest(".no")) dialog.close();
  });
}

// --- uploading -------------------------------------------------------------------------------------------------

function send(file) {
  if (file.size > props.max_bytes) {
    say(`${file.name} is too large; at most ${Math.floor(props.max_bytes / 1e6)} MB are allowed.`, { bad: true });
    return;
  }
  sending = new XMLHttpRequest();
  sending.open("POST", `checkpoints?called=${encodeURIComponent(file.name)}`);
  sending.setRequestHeader("Content-Type", "application/zip");
  sending.responseType = "json";
  sending.upload.onprogress = ({ loaded, total }) => {
    say(loaded < total ? `Uploading ${file.name}: ${Math.floor((100 * loaded) / total)} %` : `Checking ${file.name}…`);
  };
  sending.onload = () => {
    const { name, error } = sending.response || { error: UNREACHABLE };
    ended(name ? `${name} is added.` : error, { bad: !name });
    if (name) trigger("changed", {});
  };
  sending.onerror = () => ended(UNREACHABLE, { bad: true });
  sending.onabort = () => ended("The upload was stopped; nothing was added.");
  say(`Uploading ${file.name}: 0 %`);
  sender.textContent = "Stop the upload";
  sending.send(file);
}

function ended(words, how) {
  sending = null;
  sender.textContent = sender.dataset.label;
  say(words, how);
}

sender.addEventListener("click", () => (sending ? sending.abort() : picker.click()));
picker.addEventListener("change", () => {
  if (picker.files[0]) send(picker.files[0]);
  picker.value = ""; // so that the same file can be chosen again
});

// --- pulling from the Hub ----------------------------------------------------------------------------------------

const pull = element.querySelector(".models-pull");
const [source, puller] = [pull.querySelector("input"), pull.querySelector("button")];
let pulling = null; // stops the pull under way

async function pullModel(name) {
  pulling = new AbortController();
  puller.textContent = "Stop the pull";
  source.disabled = true;
  say(`Asking the Hub for ${name}…`);
  let last = {};
  try {
    const answer = await fetch(`checkpoints/hub?name=${encodeURIComponent(name)}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      signal: pulling.signal,
    });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ; ) {
      const { value, done } = await reader.read();
      const lines = (rest + (value || "")).split("\n");
      rest = done ? "" : lines.pop();
      for (const line of lines.filter(Boolean)) {
        last = JSON.parse(line);
        if (last.total) {
          const share = Math.floor((100 * last.received) / last.total);
          const size = `${(last.total / 1e6).toFixed(1)} MB`;
          say(share < 100 ? `Pulling ${name}: ${share} % of ${size}` : `Checking ${name}…`);
        }
      }
      if (done) break;
    }
    if (!last.name && !last.error) last = { error: UNREACHABLE };
  } catch (error) {
    last = { error: error.name === "AbortError" ? "The pull was stopped; nothing was added." : UNREACHABLE };
  }
  pulling = null;
  puller.textContent = puller.dataset.label;
  source.disabled = false;
  say(last.name ? `${last.name} is added.` : last.error, { bad: !last.name });
  if (last.name) {
    source.value = "";
    trigger("changed", {});
  }
}

pull.addEventListener("submit", (event) => {
  event.preventDefault();
  const name = source.value.trim();
  if (pulling) pulling.abort();
  else if (name) pullModel(name);
  else source.focus();
});

watch("value", draw);
draw();
