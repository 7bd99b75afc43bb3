// What happens to answers on their way to the server: active time, the heartbeat, sending. Tells other scripts of each new
// item by the event `labelapp:item` on the document.
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
    document.dispatchEvent(new CustomEvent("labelapp:item"));
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

  document.addEventListener("DOMContentLoaded", begin);
})();
