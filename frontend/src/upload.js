// The drop zone of ui.dropzone: many files, a bar each, then the facts that were found or the sentence why a file was refused.
//
// What the server is asked, for each file (the address is the form's data-upload, such as /channels/lab/upload/file):
//   POST ADDRESS?filename=NAME, and &force=true if the form has a tick "force" that is set
//   X-CSRF-Token: the form's token      Accept: application/json      Content-Type: application/octet-stream
//   and the bytes of the file as the body, as they are. (No multipart: the server streams them, and 2 GB cost no memory.)
// What it answers:
//   200 or 201, JSON: {"filename", "name", "version", "build", "subdir", "size": bytes, "href": page of the package,
//                      "depends": ["python >=3.10", ...], "note": null or a sentence, such as that it was there already}
//   anything else:    {"detail": a sentence} (our problem documents are that); 401 means signed out meanwhile.
import { announce } from "./toasts.js";

const AT_ONCE = 2;

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function size(bytes) {
  const units = ["B", "kB", "MB", "GB"];
  let n = 0;
  while (bytes >= 999.5 && n < 3) {
    bytes /= 1000;
    n += 1;
  }
  return `${n && bytes < 9.95 ? bytes.toFixed(1) : Math.round(bytes)}\u202f${units[n]}`;
}

class Sending {
  constructor(form, file) {
    this.form = form;
    this.file = file;
    this.row = element("li", "upload");
    this.picture = form.querySelector(".dropzone-target > .icon").cloneNode(true);
    this.state = element("span", "upload-state", "waiting");
    this.bar = element("progress", "upload-bar");
    this.bar.max = 100;
    this.bar.value = 0;
    this.bar.setAttribute("aria-label", `Sending ${file.name}`);
    this.row.append(this.picture, element("span", "upload-name", file.name), this.state, this.bar);
    form.querySelector(".uploads").append(this.row);
  }

  send() {
    return new Promise((done) => {
      const hopeless = this.hopeless();
      if (hopeless) {
        done(this.failed(hopeless, false));
        return;
      }
      const request = new XMLHttpRequest(); // fetch does not tell how far it is
      const query = new URLSearchParams({ filename: this.file.name });
      if (this.form.elements.force?.checked) query.set("force", "true");
      request.open("POST", `${this.form.dataset.upload}?${query}`);
      request.setRequestHeader("X-CSRF-Token", this.form.elements.csrf?.value ?? "");
      request.setRequestHeader("Accept", "application/json");
      request.setRequestHeader("Content-Type", "application/octet-stream");
      request.upload.onprogress = ({ loaded, total }) => this.progress(loaded, total);
      request.onload = () => done(this.answered(request));
      request.onerror = () => done(this.failed("The connection broke off. The file was not taken; send it again."));
      request.send(this.file);
    });
  }

  // What the server would refuse before it has read it. It reads on for a while after a refusal, but of a large file not to the
  // end, and a browser that is cut off never sees why.
  hopeless() {
    if (!/\.(conda|tar\.bz2)$/.test(this.file.name)) return "A conda package file's name ends in '.conda' or '.tar.bz2'.";
    const most = Number(this.form.dataset.most || Infinity);
    return this.file.size > most ? `The file is larger than ${size(most)}, which is the limit here.` : "";
  }

  progress(loaded, total) {
    this.bar.value = (100 * loaded) / Math.max(total, 1);
    this.state.textContent = loaded < total ? `${size(loaded)} of ${size(total)}` : "being read and checked …";
    if (loaded === total) this.bar.removeAttribute("value"); // moving: the server is at work
  }

  answered(request) {
    let said = {};
    try {
      said = JSON.parse(request.responseText);
    } catch {
      // a proxy's own page
    }
    if (request.status === 200 || request.status === 201) return this.taken(said);
    if (request.status === 401) return this.failed("You are signed out. Sign in again in another tab, then send it again.");
    return this.failed(said.detail ?? `The server answered ${request.status}.`);
  }

  taken(facts) {
    this.row.classList.add("upload-good");
    this.state.textContent = [facts.subdir, size(facts.size)].join(" · ");
    const more = element("p", "upload-more");
    const link = element("a", "", `${facts.name} ${facts.version}`);
    link.href = facts.href;
    more.append(link, ` ${facts.build}`);
    if (facts.depends?.length) more.append(element("span", "muted", ` · needs ${facts.depends.join(", ")}`));
    if (facts.note) more.append(element("span", "muted", ` · ${facts.note}`));
    this.bar.replaceWith(more);
    announce(`${this.file.name} is in`);
  }

  failed(sentence, mayHelp = true) {
    this.row.classList.add("upload-bad");
    this.state.textContent = "not taken";
    const more = element("p", "upload-more", sentence);
    const again = element("button", "button button-plain button-small upload-again", "Send again");
    again.type = "button";
    again.addEventListener("click", () => {
      this.row.remove();
      queue(this.form, [this.file]);
    });
    this.bar.replaceWith(more, ...(mayHelp ? [again] : []));
    announce(`${this.file.name} was not taken: ${sentence}`);
  }
}

const waiting = [];
let running = 0;

function queue(form, files) {
  for (const file of files) waiting.push(new Sending(form, file));
  while (running < AT_ONCE && waiting.length) next();
}

function next() {
  const sending = waiting.shift();
  if (!sending) return;
  running += 1;
  sending.send().finally(() => {
    running -= 1;
    next();
  });
}

export function start() {
  for (const form of document.querySelectorAll("[data-upload]:not([data-ready])")) {
    form.dataset.ready = "";
    const input = form.querySelector("input[type=file]");
    const take = () => {
      queue(form, [...input.files]);
      input.value = ""; // so that the same file can be chosen again
    };
    input.addEventListener("change", take);
    take(); // what was chosen before this script was there
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("dragover", (event) => {
      event.preventDefault();
      form.classList.add("dropzone-over");
    });
    form.addEventListener("dragleave", ({ relatedTarget }) => {
      if (!form.contains(relatedTarget)) form.classList.remove("dropzone-over");
    });
    form.addEventListener("drop", (event) => {
      event.preventDefault();
      form.classList.remove("dropzone-over");
      queue(form, [...event.dataTransfer.files]);
    });
  }
}

addEventListener("beforeunload", (event) => {
  if (running) event.preventDefault();
});
