// Buttons that copy the text beside them.
import { announce } from "./toasts.js";

async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // a server without https: browsers keep their clipboard from it, but not from a selection
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "sr-only";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("not copied");
}

document.addEventListener("click", async ({ target }) => {
  const button = target.closest(".copy");
  if (!button) return;
  const text = button.closest("[data-copy]").querySelector("code").textContent;
  try {
    await copy(text);
  } catch {
    announce("The browser did not let it be copied; select the text instead.");
    return;
  }
  button.classList.add("copied");
  announce("Copied");
  setTimeout(() => button.classList.remove("copied"), 1600);
});
