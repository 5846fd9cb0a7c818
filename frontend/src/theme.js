// A small script of its own that the page waits for: light or dark is known before anything is drawn.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  try {
    const kept = localStorage.getItem("fairway-theme");
    if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  } catch {
    // a browser that keeps nothing follows its system
  }
})();
