// Live chat: the answers' stream, keys, the draft of a prompt, active time. Without this script the page waits for answers.
(() => {
  "use strict";
  const SWITCH = "labelapp.keys";
  const IDLE = 30000; // ms without a sign of the labeler that still count as reading
  const byId = (id) => document.getElementById(id);
  const section = () => byId("chat");
  const vote = () => byId("vote");

  // Time with the answers, in seconds, while the page is seen and its reader shows signs of life.
  let active = 0;
  let lastTick = Date.now();
  let lastSign = Date.now();
  for (const kind of ["keydown", "pointerdown", "pointermove", "scroll"]) {
    document.addEventListener(kind, () => { lastSign = Date.now(); }, { passive: true, capture: true });
  }
  function tick() {
    const now = Date.now();
    if (!document.hidden && now - lastSign < IDLE) active += Math.min(now - lastTick, 2000) / 1000;
    lastTick = now;
  }
  setInterval(tick, 1000);

  function problem(text) {
    const box = byId("problem");
    if (!box) return;
    box.textContent = text;
    box.hidden = !text;
    if (text) box.scrollIntoView({ block: "nearest" });
  }

  // The stream. A text is kept as the list of its characters, because the server counts characters, not UTF-16 units.
  let source = null;
  let said = new Map();

  function listen() {
    source?.close();
    source = null;
    said = new Map();
    const url = section()?.dataset.events;
    if (!url) return;
    for (const box of section().querySelectorAll("[data-place]")) {
      const shown = box.getAttribute("aria-busy") ? box.querySelector("[data-text]").textContent : "";
      said.set(Number(box.dataset.place), Array.from(shown));
    }
    const mine = new EventSource(url);
    source = mine;
    const on = (name, told) => mine.addEventListener(name, (event) => source === mine && told(JSON.parse(event.data)));
    on("delta", grow);
    on("finished", finish);
    on("end", ({ state }) => {
      mine.close();
      if (state !== "ready") refresh();
      else byId("live").textContent = "";
    });
  }
  const response = (place) => section()?.querySelector(`[data-place="${place}"]`);

  function grow({ place, at, text }) {
    const box = response(place);
    if (!box) return;
    const known = (said.get(place) || []).slice(0, at).concat(Array.from(text));
    said.set(place, known);
    const target = box.querySelector("[data-text]");
    target.classList.add("streaming");
    target.textContent = known.join("");
    seen(place, known.length);
  }

  function finish({ place, html }) {
    const box = response(place);
    if (!box) return;
    const target = box.querySelector("[data-text]");
    target.classList.remove("streaming");
    target.innerHTML = html; // the server's own rendering, cleaned there as on every page
    box.removeAttribute("aria-busy");
    box.querySelector("[data-progress]").textContent = "";
    byId("live").textContent = `${box.querySelector("h2").textContent.trim()} ✓`;
  }

  function seen(place, count) {
    const field = vote()?.elements[`seen_${place}`];
    if (field) field.value = String(count);
  }

  const refresh = () => window.htmx.ajax("GET", location.pathname, { target: "#chat", swap: "outerHTML" });
  window.addEventListener("pagehide", () => source?.close());

  // A prompt that is being written outlives the page, and a failure.
  const draftKey = () => `labelapp-chat-${section()?.dataset.project}`;
  function keep(text) {
    try {
      if (text) localStorage.setItem(draftKey(), text);
      else localStorage.removeItem(draftKey());
    } catch { /* a browser may refuse to store: then the page alone keeps it */ }
  }
  function restore() {
    const box = byId("prompt-text");
    if (!box || box.value) return;
    try { box.value = localStorage.getItem(draftKey()) || ""; } catch { /* nothing was kept */ }
  }
  document.addEventListener("input", (event) => {
    const field = event.target;
    if (field.id === "prompt-text") keep(field.value);
    if (field.type === "range") touch(field);
  });

  // Without script a slider is a number. One that nobody has moved says nothing: it has no name until then.
  function untouch() {
    for (const slider of section()?.querySelectorAll("input[data-slider]") || []) {
      slider.type = "range";
      if (slider.hasAttribute("data-untouched")) slider.removeAttribute("name");
    }
  }
  // The value that a slider stood on already is no change when it is touched; it is chosen all the same.
  document.addEventListener("pointerup", ({ target }) => { if (target.type === "range") touch(target); });
  function touch(slider) {
    slider.name = slider.id;
    slider.removeAttribute("data-untouched");
    const output = section().querySelector(`output[data-for="${slider.id}"]`);
    if (output) output.textContent = slider.value;
  }

  function begin() {
    active = 0;
    lastTick = Date.now();
    restore();
    untouch();
    // The server made ids for pages without script. These are ours, and stay the same when something lost is sent again.
    if (window.crypto && crypto.randomUUID) {
      if (vote()) vote().elements.submission_id.value = crypto.randomUUID();
      if (byId("ask")) byId("ask").elements.key.value = crypto.randomUUID();
    }
    listen();
  }

  document.addEventListener("htmx:configRequest", (event) => {
    tick();
    if (event.detail.elt.id === "vote") event.detail.parameters.set("active_seconds", active.toFixed(1));
  });
  document.addEventListener("htmx:beforeSwap", (event) => {
    const reply = event.detail.xhr;
    if (reply.getResponseHeader("X-Section") === "chat") {
      event.detail.shouldSwap = true;
      event.detail.isError = false;
      if (reply.status === 200 && event.detail.requestConfig.elt.id === "ask") keep("");
      return;
    }
    if (reply.getResponseHeader("HX-Redirect")) return;
    event.detail.shouldSwap = false;
    const said = byId("live").dataset;
    problem(reply.status === 403 || reply.status === 200 ? said.tooOld : said.trouble);
  });
  document.addEventListener("htmx:sendError", () => problem(byId("live").dataset.offline));
  document.addEventListener("htmx:afterSwap", (event) => {
    if (!section() || event.detail.target?.id === "problem") return;
    begin();
    const next = byId("prompt-text") || byId("again") || byId("chat-title");
    next?.focus({ preventScroll: next.id === "chat-title" });
    byId("live").textContent = section().dataset.announce || "";
  });

  const TEXT = "textarea, select, input:not([type=radio], [type=checkbox], [type=range])";
  const NATIVE = "button, a, summary";
  function choose(key) {
    const radio = vote()?.querySelector(`input[type=radio][data-key="${key}"]`);
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
  function letter(name) {
    const button = byId("go-on")?.querySelector(`[data-letter="${name}"]`);
    if (button) button.click();
    const box = byId(`response-${name}`);
    if (!button && box) box.focus();
    return Boolean(button || box);
  }
  // The same switch as on the page that compares: keys of one letter can be in the way of speech input.
  const keysOn = () => {
    try { return localStorage.getItem(SWITCH) !== "off"; } catch { return true; }
  };
  function switchKeys() {
    try { localStorage.setItem(SWITCH, keysOn() ? "off" : "on"); } catch { /* then they stay as they are */ }
    byId("keys-on").setAttribute("aria-checked", String(keysOn()));
  }
  function send(form) {
    form?.requestSubmit(form.querySelector(".submit"));
    return Boolean(form);
  }
  const KEYS = {
    t: () => choose(vote()?.querySelector('input[name=answer][value="0"]')?.dataset.key),
    x: () => choose("x"),
    w: () => toggle("why", "rationale"),
    g: () => toggle("guidelines"),
    "?": showKeys,
  };
  for (const name of "ABCD") KEYS[name.toLowerCase()] = () => letter(name);

  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.isComposing || event.repeat || byId("keys").open) return;
    const target = event.target instanceof Element ? event.target : document.body;
    const typing = target.matches(TEXT);
    if (event.key === "Escape" && typing) return target.blur();
    if (event.key === "Enter") {
      const chord = event.ctrlKey || event.metaKey;
      if ((typing && !chord) || (target.matches(NATIVE) && !chord)) return;
      if (send(target.closest("#ask") || vote())) event.preventDefault();
      return;
    }
    if (typing || event.ctrlKey || event.metaKey) return;
    const key = event.key.toLowerCase();
    if (key.length === 1 && !keysOn()) return;
    const done = /^[1-9]$/.test(key) ? choose(key) : KEYS[key]?.();
    if (done) event.preventDefault();
  });

  document.addEventListener("DOMContentLoaded", () => {
    if (!section()) return;
    const button = byId("open-keys");
    button.hidden = false;
    button.addEventListener("click", showKeys);
    byId("keys-on").setAttribute("aria-checked", String(keysOn()));
    byId("keys-on").addEventListener("click", switchKeys);
    begin();
    byId("prompt-text")?.focus();
  });
})();
