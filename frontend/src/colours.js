// The switch between the system's colours, light and dark; what was chosen is remembered.
const root = document.documentElement;
const NEXT = { "": "light", light: "dark", dark: "" };
const WORDS = { "": "as the system", light: "light", dark: "dark" };

function show() {
  const words = `Colours: ${WORDS[root.dataset.theme ?? ""]}`;
  for (const button of document.querySelectorAll("[data-theme-switch]")) {
    button.setAttribute("aria-label", words);
    button.title = words;
  }
}

document.addEventListener("click", ({ target }) => {
  if (!target.closest("[data-theme-switch]")) return;
  const next = NEXT[root.dataset.theme ?? ""];
  if (next) root.dataset.theme = next;
  else delete root.dataset.theme;
  try {
    if (next) localStorage.setItem("fairway-theme", next);
    else localStorage.removeItem("fairway-theme");
  } catch {
    // then it holds for this page
  }
  show();
  document.dispatchEvent(new Event("fairway:theme"));
});

show();
