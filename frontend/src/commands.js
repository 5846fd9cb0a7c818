// Tabs of commands, one for each client. Which client somebody uses is remembered, for all pages.
const KEPT = "fairway-client";

function choose(box, tab, { focus = false } = {}) {
  for (const each of box.querySelectorAll('[role="tab"]')) {
    const chosen = each === tab;
    each.setAttribute("aria-selected", String(chosen));
    each.tabIndex = chosen ? 0 : -1;
    document.getElementById(each.getAttribute("aria-controls")).toggleAttribute("data-away", !chosen);
  }
  if (focus) tab.focus();
}

function named(box, name) {
  return [...box.querySelectorAll('[role="tab"]')].find((tab) => tab.dataset.tab === name);
}

function remember(name) {
  try {
    localStorage.setItem(KEPT, name);
  } catch {
    // then not
  }
  for (const box of document.querySelectorAll("[data-commands]")) {
    const tab = named(box, name);
    if (tab) choose(box, tab);
  }
}

document.addEventListener("click", ({ target }) => {
  const tab = target.closest('[data-commands] [role="tab"]');
  if (tab) {
    choose(tab.closest("[data-commands]"), tab);
    remember(tab.dataset.tab);
  }
});

document.addEventListener("keydown", (event) => {
  const tab = event.target.closest?.('[data-commands] [role="tab"]');
  if (!tab) return;
  const tabs = [...tab.parentElement.querySelectorAll('[role="tab"]')];
  const at = tabs.indexOf(tab);
  const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  choose(tab.closest("[data-commands]"), tabs.at(next % tabs.length), { focus: true });
});

function start() {
  try {
    const kept = localStorage.getItem(KEPT);
    if (kept) remember(kept);
  } catch {
    // then the first one
  }
}

document.addEventListener("htmx:after:swap", start);
start();
