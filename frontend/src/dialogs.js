// Dialogs open at [data-dialog=ID], and close at [data-close], at Escape, and at a click beside them. `?` shows the list of keys.
const typing = (element) => element.closest?.("input, textarea, select, [contenteditable]");

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-dialog]");
  if (opener) {
    const dialog = document.getElementById(opener.dataset.dialog);
    if (dialog) {
      event.preventDefault();
      dialog.showModal();
    }
  }
  if (event.target.closest("[data-close]")) event.target.closest("dialog")?.close();
  if (event.target instanceof HTMLDialogElement) event.target.close();
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "?" || event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  const keys = document.getElementById("keys");
  if (keys && !document.querySelector("dialog[open]")) {
    event.preventDefault();
    keys.showModal();
  }
});
