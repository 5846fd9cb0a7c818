// Forms: a name that has to be typed, selects that send their form, and no second sending while the first is under way.

function judge(form) {
  const ready = [...form.querySelectorAll("[data-typed]")].every((input) => input.value.trim() === input.dataset.typed);
  for (const button of form.querySelectorAll("[data-needs-typing]")) button.disabled = !ready;
}

document.addEventListener("input", ({ target }) => {
  if (target.matches("[data-typed]")) judge(target.form);
});

document.addEventListener("change", ({ target }) => {
  if (target.closest("[data-submit]")) target.form.requestSubmit();
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post" || event.defaultPrevented) return;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "true";
  // a page that comes back out of the browser's memory may be sent again
  addEventListener("pageshow", () => delete form.dataset.sent, { once: true });
});

export function start() {
  for (const form of document.querySelectorAll("form:has([data-typed])")) judge(form);
}
