// Keys, active time, focus and the heartbeat of the labeling page. Without this script the form posts by itself.
(() => {
  "use strict";
  const IDLE = 30000; // ms without a sign of the labeler that still count as reading
  const AWAY = 300000; // ms without one after which the lease is left to run out
  const BEAT = 60000;
  const byId = (id) => document.getElementById(id);
  const answer = () => byId("answer");

  // Time on the item, in seconds: only while the page is seen and its reader shows signs of life.
  let active = 0;
  let lastTick = Date.now();
  let lastSign = Date.now();
  const sign = () => { lastSign = Date.now(); };
  for (const kind of ["keydown", "pointerdown", "pointermove", "scroll"]) {
    document.addEventListener(kind, sign, { passive: true, capture: true });
  }
  function tick() {
    const now = Date.now();
    if (!document.hidden && now - lastSign < IDLE) active += Math.min(now - lastTick, 2000) / 1000;
    lastTick = now;
  }
  setInterval(tick, 1000);
  document.addEventListener("visibilitychange", tick);

  function problem(text) {
    const box = byId("problem");
    if (!box) return;
    box.textContent = text;
    box.hidden = !text;
    if (text) box.scrollIntoView({ block: "nearest" });
  }

  function begin() {
    active = 0;
    lastTick = Date.now();
    const form = answer();
    // The server made an id for pages without script. This one is ours, and stays the same when a lost answer is sent again.
    if (form && window.crypto && crypto.randomUUID) form.elements.submission_id.value = crypto.randomUUID();
  }

  async function beat() {
    const form = answer();
    const url = byId("comparison")?.dataset.heartbeat;
    if (!form || !url || document.hidden || Date.now() - lastSign > AWAY) return;
    const body = new FormData();
    body.set("claim", form.elements.claim.value);
    body.set("csrfmiddlewaretoken", form.elements.csrfmiddlewaretoken.value);
    const reply = await fetch(url, { method: "POST", body }).catch(() => null);
    if (reply && reply.status === 409 && form === answer()) {
      problem("This item went to somebody else meanwhile. Your answer is still welcome: it is kept as an extra one.");
    }
  }
  setInterval(beat, BEAT);

  document.addEventListener("htmx:configRequest", (event) => {
    tick();
    if (event.detail.elt.id === "answer") event.detail.parameters.set("active_seconds", active.toFixed(1));
  });
  document.addEventListener("submit", (event) => {
    tick();
    if (event.target.id === "answer") event.target.elements.active_seconds.value = active.toFixed(1);
  }, true);

  // A refusal (409, 422) is a page of ours and is shown. Anything else leaves the answer where it is.
  let guidelinesOpen = false;
  document.addEventListener("htmx:beforeSwap", (event) => {
    const reply = event.detail.xhr;
    if (reply.getResponseHeader("X-Section") === "comparison") {
      event.detail.shouldSwap = true;
      event.detail.isError = false;
      guidelinesOpen = Boolean(byId("guidelines")?.open);
      return;
    }
    event.detail.shouldSwap = false;
    problem(reply.status === 403 || reply.status === 200
      ? "Not saved: you are signed out or this page is too old. Copy what you wrote and reload the page."
      : "Not saved: the server had a problem. Your answer is still here; press Enter to send it again.");
  });
  document.addEventListener("htmx:sendError", () => {
    problem("Not saved: no connection. Your answer is still here; press Enter to send it again.");
  });
  document.addEventListener("htmx:afterSwap", () => {
    const section = byId("comparison");
    if (!section) return;
    begin();
    if (guidelinesOpen && byId("guidelines")) byId("guidelines").open = true;
    window.scrollTo(0, 0);
    byId("prompt")?.focus({ preventScroll: true });
    byId("live").textContent = section.dataset.announce || "";
  });

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
    begin();
  });
})();
