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
import { start as startToasts } from "./toasts.js";

// No text is ever run as a program: the policy of the pages forbids it, and so does this.
const refuse = function () {
  throw new Error("Fairway's pages evaluate no code in attributes");
};
htmx.registerExtension("no-eval", { init: (api) => api.initSecurity(null, refuse, refuse) });

document.addEventListener("htmx:config:request", ({ detail }) => {
  const token = document.querySelector('meta[name="csrf"]')?.content;
  if (token) detail.ctx.request.headers["X-CSRF-Token"] = token;
});

function start() {
  startForms();
  startToasts();
  if (document.querySelector("[data-chart]")) import("./charts.js").then((charts) => charts.start());
  if (document.querySelector("[data-upload]")) import("./upload.js").then((upload) => upload.start());
}

document.addEventListener("htmx:after:swap", start);
start();
