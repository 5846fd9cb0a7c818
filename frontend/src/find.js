// The search boxes: `/` goes to one, and while one types, what is found is listed below.
//
// Asks GET {mount}/search/live?q=WORDS for a part of a page: some <a class="find-hit" role="option" href>, best first.
// Whatever else comes back, or nothing, leaves a plain form, which Enter sends.
const WAIT = 120; // ms after the last key
const mount = document.body.dataset.mount ?? "";
let waiting, asked;

const boxOf = (element) => element.closest?.("[data-find]");
const inputOf = (box) => box.querySelector("input[type=search]");
const listOf = (box) => box.querySelector(".find-hits");
const hitsOf = (box) => [...box.querySelectorAll('[role="option"]')];

function close(box) {
  clearTimeout(waiting);
  asked?.abort();
  listOf(box).hidden = true;
  listOf(box).replaceChildren();
  inputOf(box).setAttribute("aria-expanded", "false");
  inputOf(box).removeAttribute("aria-activedescendant");
}

async function ask(box) {
  const words = inputOf(box).value.trim();
  asked?.abort();
  if (!words) return close(box);
  asked = new AbortController();
  try {
    const answer = await fetch(`${mount}/search/live?q=${encodeURIComponent(words)}`, { signal: asked.signal });
    if (!answer.ok || answer.redirected) return close(box);
    show(box, await answer.text());
  } catch {
    // stopped by the next key, or no server: the form is still there
  }
}

function show(box, html) {
  const list = listOf(box);
  const found = new DOMParser().parseFromString(html, "text/html").body;
  list.replaceChildren(...found.childNodes);
  const hits = hitsOf(box);
  hits.forEach((hit, n) => {
    hit.id = `${list.id}-${n}`;
    hit.tabIndex = -1;
    hit.setAttribute("aria-selected", "false");
  });
  list.hidden = hits.length === 0;
  inputOf(box).setAttribute("aria-expanded", String(hits.length > 0));
  inputOf(box).removeAttribute("aria-activedescendant");
}

function walk(box, step) {
  const hits = hitsOf(box);
  if (!hits.length) return;
  const at = hits.findIndex((hit) => hit.getAttribute("aria-selected") === "true");
  const next = at < 0 ? (step > 0 ? 0 : hits.length - 1) : at + step;
  hits.forEach((hit, n) => hit.setAttribute("aria-selected", String(n === next)));
  const chosen = hits[next]; // none: back in the box
  if (chosen) {
    inputOf(box).setAttribute("aria-activedescendant", chosen.id);
    chosen.scrollIntoView({ block: "nearest" });
  } else {
    inputOf(box).removeAttribute("aria-activedescendant");
  }
}

document.addEventListener("input", ({ target }) => {
  const box = boxOf(target);
  if (!box) return;
  clearTimeout(waiting);
  waiting = setTimeout(() => ask(box), WAIT);
});

document.addEventListener("keydown", (event) => {
  const box = boxOf(event.target);
  if (box && event.target === inputOf(box)) {
    const chosen = hitsOf(box).find((hit) => hit.getAttribute("aria-selected") === "true");
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      walk(box, event.key === "ArrowDown" ? 1 : -1);
    } else if (event.key === "Enter" && chosen) {
      event.preventDefault();
      chosen.click();
    } else if (event.key === "Escape") {
      event.preventDefault(); // browsers empty the box
      if (listOf(box).hidden) event.target.blur();
      close(box);
    }
    return;
  }
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest?.("input, textarea, select, [contenteditable], dialog")) return;
  const boxes = [...document.querySelectorAll("[data-find]")].filter((each) => each.checkVisibility());
  const first = boxes.find((each) => each.classList.contains("find-large")) ?? boxes[0];
  const input = first ? inputOf(first) : document.querySelector("main input[type=search]");
  if (input) {
    event.preventDefault();
    input.focus();
    input.select();
  }
});

document.addEventListener("focusout", ({ target, relatedTarget }) => {
  const box = boxOf(target);
  if (box && !box.contains(relatedTarget)) close(box);
});

// Without JavaScript it is a plain box, so what it is more is said here.
function start() {
  for (const box of document.querySelectorAll("[data-find]")) {
    const input = inputOf(box);
    input.setAttribute("role", "combobox");
    input.setAttribute("aria-autocomplete", "list");
    input.setAttribute("aria-expanded", "false");
    input.setAttribute("aria-controls", listOf(box).id);
  }
}

document.addEventListener("htmx:after:swap", start);
start();

// A hit is no place to go to with the pointer's first half: focus stays in the box until the click is done.
document.addEventListener("pointerdown", (event) => {
  if (event.target.closest?.(".find-hits")) event.preventDefault();
});
