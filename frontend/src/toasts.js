// Short messages in the corner: those the server put there, and those scripts say.
const STAY = 7000; // ms

/** Say it to those who listen, without showing anything. */
export function announce(text) {
  let voice = document.getElementById("voice");
  if (!voice) {
    voice = document.createElement("p");
    voice.id = "voice";
    voice.className = "sr-only";
    voice.setAttribute("aria-live", "polite");
    (document.getElementById("toasts") ?? document.body).append(voice);
  }
  voice.textContent = "";
  requestAnimationFrame(() => (voice.textContent = text));
}

/** Show a sentence for a while; tone: info, good, warn or bad. */
export function toast(tone, text) {
  const shown = document.createElement("p");
  shown.className = `toast toast-${tone}`;
  shown.dataset.toast = "";
  const words = document.createElement("span");
  words.textContent = text;
  shown.append(words);
  document.getElementById("toasts").append(shown);
  start();
}

function leave(shown) {
  shown.classList.add("toast-leaving");
  setTimeout(() => shown.remove(), 250);
}

export function start() {
  for (const shown of document.querySelectorAll("[data-toast]:not([data-seen])")) {
    shown.dataset.seen = "";
    const close = document.createElement("button");
    close.type = "button";
    close.className = "toast-close";
    close.setAttribute("aria-label", "Close");
    close.textContent = "✕";
    close.addEventListener("click", () => leave(shown));
    shown.append(close);
    // what went wrong stays until it was read
    if (!shown.classList.contains("toast-bad")) {
      const wait = () => setTimeout(() => (shown.matches(":hover, :focus-within") ? wait() : leave(shown)), STAY);
      wait();
    }
  }
}
