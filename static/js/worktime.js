// What is measured about the work on an item (the page says so, under "What is measured"): active seconds and the share of
// each response that was on screen. Also the heartbeat that keeps an item, the wait before an early answer, and rest.
(() => {
  "use strict";
  const IDLE = 30000; // ms without a sign of the labeler that still count as reading
  const AWAY = 300000; // ms without one after which the lease is left to run out
  const BEAT = 60000;
  const PIECES = 20; // a response is seen in steps of one twentieth
  const REST = 45 * 60; // seconds of work after which a break is proposed
  const NEW_SITTING = 15 * 60000; // ms of rest that count as one
  const byId = (id) => document.getElementById(id);
  const answer = () => byId("answer");
  const box = byId("outbox"); // not on the page that changes an earlier answer
  const guard = byId("guard"); // may leave the page with an item that is put aside

  let active = 0;
  let onScreen = 0;
  let lastTick = Date.now();
  let lastSign = Date.now();
  const sign = () => { lastSign = Date.now(); };
  for (const kind of ["keydown", "pointerdown", "pointermove", "scroll"]) {
    document.addEventListener(kind, sign, { passive: true, capture: true });
  }
  function tick() {
    const now = Date.now();
    const passed = Math.min(now - lastTick, 2000) / 1000;
    lastTick = now;
    if (document.hidden) return;
    onScreen += passed;
    if (now - lastSign < IDLE) {
      active += passed;
      sit(passed, now);
    }
    look();
    hold();
    note();
  }
  setInterval(tick, 1000);
  document.addEventListener("visibilitychange", () => { tick(); if (!document.hidden) beat(); });

  // The measures, in the form.
  function note() {
    const form = answer();
    if (!form) return;
    put(form, "active_seconds", active.toFixed(1));
    put(form, "seen", shares().map((share) => share.toFixed(2)).join(","));
  }
  function put(form, name, value) {
    if (!form.elements[name]) {
      const input = Object.assign(document.createElement("input"), { type: "hidden", name });
      form.append(input);
    }
    form.elements[name].value = value;
  }

  // Which pieces of each response were on screen: between the pinned prompt and the bar.
  let pieces = [];
  let eyes = null;
  function look() {
    for (const text of texts()) {
      eyes?.unobserve(text);
      eyes?.observe(text); // tells where it is now, also in the middle of a long text, where no threshold is crossed
    }
  }
  const cards = () => [...document.querySelectorAll("#comparison .response")];
  const texts = () => cards().flatMap((card) => [...card.querySelectorAll(".text, .raw, .words")]);
  function watch() {
    eyes?.disconnect();
    pieces = cards().map(() => new Array(PIECES).fill(false));
    const [above, below] = [".prompt", ".bar"].map((selector) => {
      const pinned = document.querySelector(`#comparison ${selector}`);
      return pinned && getComputedStyle(pinned).position === "sticky" ? pinned.offsetHeight : 0;
    });
    const rootMargin = `-${above}px 0px -${below}px 0px`;
    eyes = new IntersectionObserver(saw, { rootMargin, threshold: [0, 0.25, 0.5, 0.75, 1] });
    look();
  }
  function saw(sights) {
    const all = cards();
    for (const { target, boundingClientRect: whole, intersectionRect: part } of sights) {
      const seen = pieces[all.indexOf(target.closest(".response"))];
      if (!seen || !whole.height || !part.height) continue;
      for (let piece = 0; piece < PIECES; piece += 1) {
        const middle = whole.top + (whole.height * (piece + 0.5)) / PIECES;
        if (middle >= part.top && middle <= part.bottom) seen[piece] = true;
      }
    }
    hold();
  }
  const shares = () => pieces.map((seen) => seen.filter(Boolean).length / PIECES);

  // An early answer waits. The server does not refuse it: clocks differ; it keeps the measures.
  function missing() {
    const minimum = Number(byId("comparison")?.dataset.minimum || 0);
    if (!minimum || !answer() || !guard) return "";
    if (onScreen < minimum) return guard.dataset.seconds.replace("%n", Math.ceil(minimum - onScreen));
    const unseen = shares().flatMap((share, place) => (share ? [] : [String.fromCharCode(65 + place)]));
    return unseen.length ? guard.dataset.unseen.replace("%n", unseen.join(", ")) : "";
  }
  function hold() {
    const button = answer()?.querySelector(".submit");
    if (!guard || !button) return;
    const text = missing();
    guard.textContent = text;
    guard.hidden = !text;
    if (text) {
      if (guard.nextElementSibling !== answer()) answer().before(guard);
      button.setAttribute("aria-disabled", "true");
      button.setAttribute("aria-describedby", "guard");
    } else {
      button.removeAttribute("aria-disabled");
      button.removeAttribute("aria-describedby");
    }
  }
  document.addEventListener("submit", (event) => {
    if (event.target.id !== "answer") return;
    tick();
    const text = missing();
    if (!text) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    byId("live").textContent = text;
  }, true);
  document.addEventListener("htmx:configRequest", (event) => {
    if (event.detail.elt.id !== "answer") return;
    for (const name of ["active_seconds", "seen"]) event.detail.parameters.set(name, answer().elements[name].value);
  });

  document.addEventListener("labelapp:item", () => {
    active = Number(answer()?.elements.active_seconds?.value) || 0; // of an item that was put aside
    onScreen = active;
    lastTick = Date.now();
    watch();
    hold();
    compareQuestions();
  });

  async function beat() {
    if (document.hidden || Date.now() - lastSign > AWAY) return;
    // What is on screen comes last and so keeps the longest lease: a reload brings back the item that is held longest.
    for (const section of [...(byId("ahead")?.content.children ?? []), byId("comparison")]) await keep(section);
  }
  async function keep(section) {
    const claim = section?.querySelector("#answer [name=claim]");
    const url = section?.dataset.heartbeat;
    if (!claim || !url) return;
    const body = new FormData();
    body.set("claim", claim.value);
    body.set("csrfmiddlewaretoken", document.querySelector("[name=csrfmiddlewaretoken]").value);
    const reply = await fetch(url, { method: "POST", body }).catch(() => null);
    if (reply?.status !== 409) return;
    if (section === byId("comparison")) {
      const problem = byId("problem");
      problem.textContent = box.dataset.gone;
      problem.hidden = false;
    } else if (section.parentNode === byId("ahead").content) {
      section.remove();
    }
  }
  setInterval(beat, BEAT);

  // Kept per person and project, and shared by their tabs.
  function remembered(name) {
    try { return JSON.parse(localStorage.getItem(`${box.dataset.key}:${name}`)); } catch { return null; }
  }
  function remember(name, value) {
    try { localStorage.setItem(`${box.dataset.key}:${name}`, JSON.stringify(value)); } catch { /* full, or forbidden */ }
  }
  function sit(passed, now) {
    if (!box) return;
    const sitting = remembered("sitting");
    const seconds = sitting && now - sitting.at < NEW_SITTING ? sitting.seconds + passed : passed;
    remember("sitting", { seconds, at: now });
    byId("rest").hidden = seconds < REST;
  }
  function compareQuestions() {
    const protocol = byId("comparison")?.dataset.protocol;
    if (!box || !protocol) return;
    const before = remembered("protocol");
    byId("asked-anew").hidden = !before || before === protocol;
    remember("protocol", protocol);
  }
  byId("rest")?.querySelector("button").addEventListener("click", () => {
    remember("sitting", { seconds: 0, at: Date.now() });
    byId("rest").hidden = true;
  });
})();
