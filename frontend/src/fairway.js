// What every page loads. Each part listens at the document, so that what htmx puts in later works as well;
// what has to look at elements itself does it in `start`, which runs again after each swap.
import htmx from "htmx.org";
import "./colours.js";
import "./commands.js";
import "./copy.js";
import "./dialogs.js";
import "./find.js";
import "./menus.js";
import { start as startForms } from "./forms.js";
import { start as startToasts, toast } from "./toasts.js";

// No text is ever run as a program: the policy of the pages forbids it, and so does this.
const refuse = function () {
  throw new Error("Fairway's pages evaluate no code in attributes");
};
htmx.registerExtension("no-eval", { init: (api) => api.initSecurity(null, refuse, refuse) });

document.addEventListener("htmx:config:request", ({ detail }) => {
  const token = document.querySelector('meta[name="csrf"]')?.content;
  if (token) detail.ctx.request.headers["X-CSRF-Token"] = token;
});

// A part of a page takes the place of another only if it is one. Whoever was sent elsewhere, to sign in for instance, goes there
// with the whole window; what went wrong is said in the corner.
const SENTENCES = {
  401: "You are signed out. Load the page again to sign in.",
  403: "You may not do that, or the page is too old: load it again.",
  404: "That is not there any more. Load the page again.",
  429: "That was asked too often. Wait a moment.",
};

document.addEventListener("htmx:before:response", (event) => {
  const { status, raw } = event.detail.ctx.response;
  if (raw.redirected) {
    event.preventDefault();
    location.assign(raw.url);
  } else if (status >= 400 && status !== 422) {
    event.preventDefault();
    event.target.toggleAttribute?.("data-failed", true);
    toast("bad", SENTENCES[status] ?? "The server could not do that. Try again in a moment.");
  }
});

document.addEventListener("htmx:error", ({ target }) => {
  target.toggleAttribute?.("data-failed", true);
  toast("bad", "The server did not answer. Try again in a moment.");
});

// On a phone the tabs are wider than the page.
for (const tab of document.querySelectorAll(".tabs [aria-current]")) {
  tab.scrollIntoView({ block: "nearest", inline: "center" });
}

function start() {
  startForms();
  startToasts();
  if (document.querySelector("[data-chart]")) import("./charts.js").then((charts) => charts.start());
  if (document.querySelector("[data-upload]")) import("./upload.js").then((upload) => upload.start());
}

document.addEventListener("htmx:after:swap", start);
start();
