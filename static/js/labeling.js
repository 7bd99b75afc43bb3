// Keys and focus of the labeling page. Without this script the form posts by itself. Each item begins with the event
// `labelapp:item` on the document (outbox.js).
(() => {
  "use strict";
  const byId = (id) => document.getElementById(id);
  const answer = () => byId("answer");

  const TEXT = "textarea, select, input:not([type=radio])";
  const NATIVE = "button, a, summary"; // Enter and space already mean something there
  function choose(key) {
    const radio = answer()?.querySelector(`input[type=radio][data-key="${key}"]`);
    if (!radio) return false;
    radio.checked = true;
    radio.focus({ preventScroll: true });
    return true;
  }
  function toggle(id, field) {
    const details = byId(id);
    if (!details) return false;
    details.open = !details.open;
    if (details.open && field) byId(field).focus();
    return true;
  }
  function showKeys() {
    byId("keys").showModal();
    return true;
  }
  function undo() {
    byId("undo")?.requestSubmit();
    return Boolean(byId("undo"));
  }
  function send() {
    answer()?.requestSubmit(answer().querySelector(".submit"));
    return Boolean(answer());
  }
  const KEYS = {
    t: () => choose(answer()?.querySelector('input[value="0"]')?.dataset.key),
    x: () => choose("x"),
    w: () => toggle("why", "rationale"),
    g: () => toggle("guidelines"),
    z: undo,
    "?": showKeys,
  };
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.isComposing || event.repeat || byId("keys").open) return;
    const target = event.target instanceof Element ? event.target : document.body;
    const typing = target.matches(TEXT);
    if (event.key === "Escape" && typing) return target.blur();
    if (event.key === "Enter") {
      const chord = event.ctrlKey || event.metaKey;
      if ((typing && !chord) || (target.matches(NATIVE) && !chord)) return;
      if (send()) event.preventDefault();
      return;
    }
    if (typing || event.ctrlKey || event.metaKey) return;
    const key = event.key.toLowerCase();
    const done = /^[1-9]$/.test(key) ? choose(key) : KEYS[key]?.();
    if (done) event.preventDefault();
  });

  document.addEventListener("DOMContentLoaded", () => {
    const button = byId("open-keys");
    button.hidden = false;
    button.addEventListener("click", showKeys);
  });
})();
