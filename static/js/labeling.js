// Keys, focus and the live parts of the answer form. Without this script the form posts by itself. Each item begins with
// the event `labelapp:item` on the document (outbox.js); what is rarely used is loaded when it is.
(() => {
  "use strict";
  const scripts = document.currentScript.dataset;
  const byId = (id) => document.getElementById(id);
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const answer = () => byId("answer");
  const root = document.documentElement;
  root.classList.add("js");

  // Groups: one question each. Digits answer the current one; J and K go from one to the next.
  let current = null;
  function groups() {
    const found = all(".groups [data-group]");
    const overall = one(".overall");
    if (overall) found[answer().hasAttribute("data-criteria-first") ? "push" : "unshift"](overall);
    return found;
  }
  function mark(group) {
    current?.classList.remove("current");
    current = group || null;
    current?.classList.toggle("current", groups().length > 1);
  }
  const group = () => (current?.isConnected ? current : groups()[0]);
  function enter(next) {
    mark(next);
    const fields = all("input:not([type=range])", next);
    const field = fields.find((field) => field.checked) || fields[0];
    field.focus({ preventScroll: true });
    if (field.type === "number") field.select();
    next.scrollIntoView({ block: "nearest" });
  }
  function go(by) {
    const found = groups();
    const next = found[found.indexOf(group()) + by];
    if (next && !next.disabled) enter(next);
    return Boolean(next);
  }
  document.addEventListener("focusin", ({ target }) => {
    const found = groups();
    const near = target.closest("[data-group]") || (target.matches(".response") && one("[data-group]", target));
    if (near && found.includes(near)) mark(near);
  });

  // Answering
  function check(field, on = true) {
    if (!field || field.matches(":disabled")) return false;
    field.checked = on;
    field.dispatchEvent(new Event("input", { bubbles: true }));
    field.dispatchEvent(new Event("change", { bubbles: true }));
    return true;
  }
  function pick(field) {
    if (!check(field, field?.type === "radio" || !field?.checked)) return false;
    field.focus({ preventScroll: true });
    return true;
  }
  function digit(key, target) {
    const asked = target.closest("[data-group=skip]") || group();
    const done = Boolean(asked) && pick(one(`[data-key="${key}"]`, asked));
    if (done && asked.matches(".likert, .safety, .rank")) go(1);
    return done;
  }
  function arrow(by, target) {
    if (target.matches("[data-group=skip] *")) return false;
    const asked = group();
    const fields = asked ? all(asked.matches(".overall") ? ".steps input" : "input[type=radio]", asked) : [];
    const at = fields.findIndex((field) => field.checked);
    const mildest = by > 0 ? fields.findIndex((field) => field.value > 0) : fields.findLastIndex((field) => field.value < 0);
    const first = asked?.matches(".overall") ? mildest : by > 0 ? 0 : fields.length - 1;
    const next = fields[at < 0 ? first : Math.min(Math.max(at + by, 0), fields.length - 1)];
    return Boolean(next) && pick(next);
  }
  function rank(card, by) {
    const fields = all(".rank input", card).filter((field) => field.value !== "x");
    const at = fields.findIndex((field) => field.checked);
    const first = by < 0 ? 0 : fields.length - 1;
    return check(fields[at < 0 ? first : Math.min(Math.max(at + by, 0), fields.length - 1)]);
  }
  function vertical(by, target) {
    const card = target.closest(".response");
    if (card && one(".rank", card)) return rank(card, by);
    return target.matches("[type=radio]") && arrow(by, target);
  }

  // What follows from the answer so far
  const WORD = /[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|(?:(?![\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])[\p{L}\p{N}_])+/gu;
  const chosen = () => one("[name=answer]:checked", answer())?.value;
  function answered(group) {
    const field = one("[type=number]", group);
    return field ? field.value !== "" : Boolean(one("input:checked", group));
  }
  function showRanks() {
    for (const slot of all("#slots li")) {
      const cards = all(`.rank input[value="${slot.dataset.rank}"]:checked`).map((field) => field.closest(".response"));
      one("span", slot).textContent = cards.map((card) => one("h2", card).textContent.trim().split(" ").pop()).join(" = ");
    }
    const bad = chosen() === "both_bad";
    for (const field of all(".rank input")) field.required = !bad;
  }
  function showLeft() {
    const asked = groups().filter((group) => !group.matches(".flags, .overall") && one("[required]", group));
    const done = asked.filter(answered).length;
    if (byId("left")) byId("left").textContent = asked.length ? `${done} / ${asked.length}` : "";
    if (answer().hasAttribute("data-criteria-first") && one(".overall")) one(".overall").disabled = done < asked.length;
  }
  function showRewrite() {
    const box = byId("rewrite");
    if (box?.dataset.when !== "both_bad") return;
    const bad = chosen() === "both_bad";
    if (bad && box.hidden) box.open = true;
    box.hidden = one("fieldset", box).disabled = !bad;
  }
  function showWhy(event) {
    const field = byId("rationale");
    if (!field) return;
    const words = (field.value.match(WORD) || []).length;
    if (byId("words")) byId("words").textContent = words;
    const least = Number(field.dataset.least);
    field.setCustomValidity(words && words < least ? field.dataset.short : "");
    if (!field.dataset.from) return;
    const said = chosen();
    const mild = said !== "both_bad" && Math.abs(said) < field.dataset.from;
    const needed = !mild && (said !== undefined || !one(".overall"));
    field.required = needed && (least > 0 || !one("[name=reasons]:checked"));
    if (event?.target.name === "answer" && needed && !words && byId("why").matches("details")) byId("why").open = true;
  }
  function slide({ target }) {
    if (target.dataset?.slide) {
      const field = one(`[name="${target.dataset.slide}"]`);
      field.value = target.value;
      target.classList.remove("untouched");
      field.dispatchEvent(new Event("change", { bubbles: true }));
    } else if (target.type === "number") {
      const range = one(`[data-slide="${target.name}"]`);
      if (range) range.value = target.value || 50;
      range?.classList.toggle("untouched", target.value === "");
    }
  }
  // The value that a slider stood on already is no change when it is touched; it is chosen all the same.
  document.addEventListener("pointerup", ({ target }) => { if (target.dataset?.slide) slide({ target }); });
  function update(event) {
    if (!answer()) return;
    showRanks();
    showLeft();
    showRewrite();
    showWhy(event);
  }
  document.addEventListener("input", (event) => { slide(event); update(event); });
  document.addEventListener("change", update);
  document.addEventListener("invalid", ({ target }) => {
    const box = target.closest("details");
    if (box) box.open = true;
  }, true);

  // How the responses are shown
  let view = "text";
  let together = false;
  const pressed = (key, on) => one(`[data-tool=${key}]`)?.setAttribute("aria-pressed", String(on));
  async function show(wanted) {
    view = wanted;
    pressed("d", view === "diff");
    pressed("m", view === "raw");
    if (view === "diff") (await import(scripts.columns)).diff(all(".response"));
    for (const [name, selector] of [["text", ".text"], ["raw", ".raw"], ["diff", ".words"]]) {
      for (const shown of all(`.response ${selector}`)) shown.hidden = view !== name;
    }
    document.dispatchEvent(new CustomEvent("labelapp:view"));
  }
  async function scrollTogether(on) {
    together = on;
    pressed("s", on);
    (await import(scripts.columns)).together(byId("responses"), on);
  }
  function tool(key) {
    const button = one(`[data-tool=${key}]`);
    if (!button || !button.offsetParent) return false;
    if (key === "s") scrollTogether(!together);
    else show(view === { d: "diff", m: "raw" }[key] ? "text" : { d: "diff", m: "raw" }[key]);
    return true;
  }
  function fold() {
    const button = byId("fold");
    const shown = byId("asked").hidden;
    byId("asked").hidden = !shown;
    button.setAttribute("aria-expanded", String(shown));
    [button.textContent, button.dataset.show] = [button.dataset.show, button.textContent];
    room();
  }
  function room() { // what is scrolled to must not hide behind the pinned prompt or the bar
    const height = (selector) => {
      const pinned = one(selector);
      return pinned && getComputedStyle(pinned).position === "sticky" ? pinned.offsetHeight + 12 : 12;
    };
    root.style.scrollPadding = `${height(".prompt")}px 0 ${height(".bar")}px`;
    const asked = byId("asked");
    if (asked && asked.scrollHeight > asked.clientHeight + 1) asked.tabIndex = 0;
  }

  // Marks: the last selection is kept, since a tap on the button ends it.
  let selected = null;
  function noteSelection() {
    const selection = getSelection();
    if (selection.rangeCount && !selection.isCollapsed) selected = selection.getRangeAt(0).cloneRange();
  }
  document.addEventListener("selectionchange", noteSelection);
  document.addEventListener("pointerdown", ({ target }) => { if (!target.closest("[data-flag]")) selected = null; });
  let marks = null; // the module, once it is loaded
  let opening = false; // the menu comes a moment later: a digit that is meant for it must not answer something else
  function flag() {
    if (!byId("span-menu")) return false;
    noteSelection(); // the browser tells of a selection a moment later: a quick key must not miss it
    if (marks) {
      marks.choose(selected);
      return true;
    }
    opening = true;
    import(scripts.spans)
      .then((spans) => { marks = spans; spans.choose(selected); })
      .finally(() => { opening = false; });
    return true;
  }

  // Opening and leaving
  function open(id, field) {
    const box = byId(id);
    if (!box || box.hidden) return false;
    if (box.matches("details")) {
      box.open = !box.open || Boolean(field && !box.contains(document.activeElement));
      if (!box.open) return true;
    }
    if (field) one(field, box)?.focus();
    return true;
  }
  function leave(target) {
    const box = target.closest("details.why[open]") || one("details.why[open]");
    if (box) {
      box.open = false;
      one("summary", box).focus();
    } else if (target.matches(TEXT)) target.blur();
  }
  function showKeys() {
    const sheet = byId("keys");
    if (!sheet) return false;
    for (const row of all("[data-for]", sheet)) row.hidden = !one(row.dataset.for);
    if (one(".steps")) byId("last-step").textContent = all(".steps input").length;
    sheet.showModal();
    return true;
  }
  function undo() {
    byId("undo")?.requestSubmit();
    return Boolean(byId("undo"));
  }
  function send(target) {
    const form = target.closest("#skip") || (target.matches(TEXT) && target.form) || answer();
    form?.requestSubmit(one(".submit", form));
    return Boolean(form);
  }
  function card(place) {
    const found = byId(`card-${place}`);
    found?.focus({ preventScroll: true });
    found?.scrollIntoView({ block: "nearest" });
    return Boolean(found);
  }

  // Keys
  const TEXT = "textarea, select, input:not([type=radio], [type=checkbox], [type=range])";
  const NATIVE = "button, a, summary"; // Enter and space already mean something there
  const SWITCH = "labelapp.keys";
  const KEYS = {
    arrowleft: (target) => arrow(-1, target),
    arrowright: (target) => arrow(1, target),
    arrowup: (target) => vertical(-1, target),
    arrowdown: (target) => vertical(1, target),
    t: () => pick(one("[name=answer][value='0']")),
    x: () => pick(one("[name=answer][value=both_bad]")),
    j: () => go(1),
    k: () => go(-1),
    f: flag,
    a: () => card(0),
    b: () => card(1),
    d: () => tool("d"),
    m: () => tool("m"),
    s: () => tool("s"),
    w: () => open("why", "#rationale"),
    r: () => open("rewrite", "textarea"),
    u: () => open("skip-menu", "input[type=radio]"),
    g: () => open("guidelines"),
    z: undo,
    h: () => Boolean(byId("history")?.click() ?? byId("history")),
    "?": showKeys,
  };
  const keysOn = () => localStorage.getItem(SWITCH) !== "off";
  function switchKeys(button) {
    localStorage.setItem(SWITCH, keysOn() ? "off" : "on");
    button.setAttribute("aria-checked", String(keysOn()));
  }
  function pressKey(event) {
    const target = event.target instanceof Element ? event.target : document.body;
    const key = event.key.toLowerCase();
    const chord = event.ctrlKey || event.metaKey;
    const typing = target.matches(TEXT) && !(target.type === "number" && (key === "j" || key === "k"));
    if (key === "escape") return leave(target);
    if (key === "enter") return chord || !(typing || target.matches(NATIVE)) ? send(target) : false;
    if (typing || chord || target.type === "range" || (key.length === 1 && !keysOn())) return false;
    return /^[0-9]$/.test(key) ? digit(key, target) : KEYS[key]?.(target);
  }
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.isComposing || event.repeat || opening || one("dialog[open]")) return;
    if (pressKey(event)) event.preventDefault();
  });

  // Buttons do what the keys do.
  document.addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (!button) return;
    if (button.dataset.tool) tool(button.dataset.tool);
    if (button.dataset.flag) flag();
    if (button.dataset.move) rank(button.closest(".response"), Number(button.dataset.move));
    if (button.dataset.start) startFrom(Number(button.dataset.start));
    if (button.id === "fold") fold();
    if (button.id === "open-keys") showKeys();
    if (button.id === "keys-on") switchKeys(button);
  });
  document.addEventListener("pointerover", ({ target }) => { if (target.matches?.(".grip")) import(scripts.ranking); });
  function startFrom(place) {
    const field = byId("rewrite-text");
    field.focus();
    field.select();
    // Typed rather than set, so that the browser's undo brings back what stood there.
    document.execCommand("insertText", false, one(".raw", byId(`card-${place}`)).textContent);
    one("[name=rewrite_of]").value = place;
  }

  function begin() {
    mark(groups()[0]);
    all("[type=number]").forEach((target) => slide({ target }));
    update();
    if (view !== "text") show(view === "raw" ? "raw" : "text");
    if (together && one("[data-tool=s]")) scrollTogether(true);
    if (one("[name=spans]")?.value) import(scripts.spans).then((spans) => spans.draw());
    room();
  }
  document.addEventListener("labelapp:item", begin);
  window.addEventListener("resize", room);
  document.addEventListener("DOMContentLoaded", () => {
    if (byId("open-keys")) byId("open-keys").hidden = false;
    byId("keys-on")?.setAttribute("aria-checked", String(keysOn()));
    begin();
  });
})();
