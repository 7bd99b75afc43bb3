// The way of an answer to the server. It is kept in this browser first, the next item is shown at once, and the answer is
// sent until the server has it, always under the same submission id. "Saved" is said only after the server said so.
// Tells other scripts of each new item by the event `labelapp:item`, of each answer by `labelapp:answered`.
(() => {
  "use strict";
  const FIRST_WAIT = 2000; // ms before an answer is sent again; doubled each time
  const LAST_WAIT = 60000;
  const PATIENCE = 20000; // ms after which a silent connection counts as none
  const BLINK = 400; // ms after a new item in which nobody can have judged it: the second click of a double click
  const UNDO_SECONDS = 10;
  const byId = (id) => document.getElementById(id);
  const box = byId("outbox");
  const begun = () => document.dispatchEvent(new CustomEvent("labelapp:item"));
  if (!box) { // the page that changes an earlier answer: a form like any other
    document.addEventListener("DOMContentLoaded", begun);
    return;
  }
  const ANSWERS = `${box.dataset.key}:answer:`;
  const ahead = byId("ahead").content; // items that are handed out and not shown yet
  const sources = new WeakMap(); // sections as they came
  const section = () => byId("comparison");
  const slotOf = (part) => part?.querySelector("#answer [name=slot]")?.value;
  const isWaiting = () => "waiting" in section().dataset || section().getAttribute("aria-busy") === "true";

  // What is kept here: one entry an answer, so that tabs do not overwrite each other's.
  function entries() {
    try {
      const keys = Object.keys(localStorage).filter((key) => key.startsWith(ANSWERS));
      return keys.map((key) => JSON.parse(localStorage.getItem(key))).filter(Boolean).sort((a, b) => a.at - b.at);
    } catch {
      return []; // a browser that keeps nothing
    }
  }
  const unsent = () => entries().filter((entry) => !entry.refusal);
  const drop = (entry) => localStorage.removeItem(ANSWERS + entry.id);
  function keep(entry) {
    for (const kept of [entry, { ...entry, html: "" }]) {
      try {
        localStorage.setItem(ANSWERS + entry.id, JSON.stringify(kept));
        return true;
      } catch { /* full, or forbidden */ }
    }
    return false;
  }

  // Talking to the server. A reply without our header is a sign-in page, or somebody else's error.
  async function ask(url, body) {
    const text = body ? JSON.stringify([...body]).length : 0;
    const options = { signal: AbortSignal.timeout(PATIENCE), ...(body && { method: "POST", body, keepalive: text < 15000 }) };
    try {
      const reply = await fetch(url, { headers: { "HX-Request": "true" }, ...options });
      const ours = reply.headers.get("X-Section") === "comparison";
      return {
        status: reply.status,
        ours,
        saved: reply.headers.get("X-Saved"),
        consent: reply.headers.get("HX-Redirect"),
        foreign: ours && reply.headers.get("X-Labeler") !== box.dataset.labeler,
        section: ours ? read(await reply.text()) : null,
      };
    } catch {
      return null;
    }
  }
  function read(html) {
    const part = new DOMParser().parseFromString(html, "text/html").getElementById("comparison");
    if (part) sources.set(part, html);
    return part;
  }
  let token = document.querySelector("[name=csrfmiddlewaretoken]").value;
  function learn(reply) {
    token = reply.section.querySelector("[name=csrfmiddlewaretoken]")?.value ?? token;
  }
  // Everything that the server need not hand out: on screen, ahead, or answered and not there yet.
  function inHand(except) {
    const slots = [section(), ...ahead.children].map(slotOf).concat(entries().map((entry) => entry.slot));
    return [...new Set(slots)].filter((slot) => slot && slot !== except).join(",");
  }

  // Showing.
  let latest = {}; // what the server said last of progress and of the last judgment
  function hear(part) {
    for (const id of ["progress", "last"]) latest[id] = part.querySelector(`#${id}`)?.cloneNode(true);
  }
  let shownAt = 0;
  let shownSaying = "";
  const saying = (form) => JSON.stringify([...new FormData(form)].filter(([name]) => !["active_seconds", "seen"].includes(name)));
  function show(part, { aside = false } = {}) {
    const before = section();
    const guidelinesOpen = byId("guidelines")?.open;
    before.replaceWith(part);
    if (aside && slotOf(before)) ahead.prepend(before);
    dress();
    if (guidelinesOpen && byId("guidelines")) byId("guidelines").open = true;
    window.scrollTo(0, 0);
    byId("prompt")?.focus({ preventScroll: true });
    begin();
  }
  // A section that was fetched ahead does not know what happened since.
  function dress() {
    for (const id of ["progress", "last"]) {
      if (latest[id]) section().querySelector(`#${id}`)?.replaceWith(latest[id].cloneNode(true));
    }
    if (unsent().length) section().querySelector("#last")?.replaceWith(byId("unsent").content.cloneNode(true));
    window.htmx?.process(section());
  }
  function begin() {
    shownAt = Date.now();
    const form = byId("answer");
    // The server made an id for pages without script. This one is ours, and stays the same when the answer is sent again.
    if (form && window.crypto?.randomUUID) form.elements.submission_id.value = crypto.randomUUID();
    begun();
    shownSaying = form ? saying(form) : "";
    prefetch();
  }
  function showWaiting() {
    if ("waiting" in section().dataset) return;
    show(byId("waiting").content.firstElementChild.cloneNode(true));
  }
  function place(part) {
    const slot = slotOf(part);
    part.querySelector("#problem")?.setAttribute("hidden", "");
    if (unsent().some((entry) => entry.slot === slot)) return undefined;
    if (isWaiting() || !slotOf(section())) return show(part);
    const here = [section(), ...ahead.children].map(slotOf);
    if (slot && !here.includes(slot)) ahead.append(part);
    return undefined;
  }
  function problem(text) {
    const notice = byId("problem");
    notice.textContent = text;
    notice.hidden = !text;
    if (text) notice.scrollIntoView({ block: "nearest" });
  }

  // The next item, while this one is read.
  let fetching = false;
  async function prefetch() {
    if (fetching || isWaiting() || !slotOf(section()) || ahead.firstElementChild || unsent().length) return;
    fetching = true;
    const reply = await ask(`${box.dataset.label}?holding=${inHand()}`);
    fetching = false;
    if (reply?.section && !reply.foreign && reply.status === 200 && slotOf(reply.section)) place(reply.section);
  }

  // An answer.
  document.addEventListener("submit", (event) => {
    if (event.target.id === "answer") take(event, event.target);
    else if (event.target.id === "undo") takeUndo(event);
  }, true);
  document.addEventListener("click", (event) => {
    const form = event.target.closest?.("#answer .submit")?.form;
    if (form && tooSoon(form)) event.preventDefault();
  }, true);
  const tooSoon = (form) => Date.now() - shownAt < BLINK && saying(form) === shownSaying;
  function take(event, form) {
    if (tooSoon(form) || isWaiting()) return stop(event);
    const entry = {
      id: form.elements.submission_id.value,
      slot: slotOf(section()),
      at: Date.now(),
      asked: byId("asked")?.textContent.trim().slice(0, 80) ?? "",
      fields: [...new FormData(form, event.submitter)].filter(([name]) => name !== "csrfmiddlewaretoken"),
      html: sources.get(section()) ?? "",
    };
    if (!keep(entry)) return undefined; // then htmx sends it, and it stays on screen until the server has it
    stop(event);
    byId("told").replaceChildren();
    document.dispatchEvent(new CustomEvent("labelapp:answered", { detail: { slot: entry.slot } }));
    if (ahead.firstElementChild) show(ahead.firstElementChild);
    else busy();
    drain();
    return undefined;
  }
  function stop(event) {
    event.preventDefault();
    event.stopImmediatePropagation();
  }
  function busy() {
    section().setAttribute("aria-busy", "true");
    byId("answer").classList.add("htmx-request");
  }

  // Sending, one answer after the other and in one tab at a time.
  const alone = (job) => (navigator.locks ? navigator.locks.request(ANSWERS, job) : job());
  let running = null;
  let sending = null;
  let wait = FIRST_WAIT;
  let timer = 0;
  let stuck = ""; // why answers stay here: offline, refused, other, consent
  function drain() {
    clearTimeout(timer);
    running ??= alone(sendAll).finally(after);
    return running;
  }
  async function sendAll() {
    if (stuck && stuck !== "offline") await renew();
    for (let entry = unsent()[0]; entry; entry = unsent()[0]) {
      sending = entry.id;
      const went = await send(entry);
      sending = null;
      if (!went) return;
    }
    stuck = "";
  }
  async function after() {
    running = null;
    tell();
    if (unsent().length) {
      timer = setTimeout(drain, wait);
      wait = Math.min(2 * wait, LAST_WAIT);
    } else if (isWaiting()) { // another tab sent it
      const reply = await ask(`${box.dataset.label}?holding=${inHand()}`);
      if (reply?.section && isWaiting()) show(reply.section);
      else if (!reply?.section) timer = setTimeout(drain, wait);
    } else {
      prefetch();
    }
  }
  // Signed in again, in another tab: the old form's token is of no use any more.
  async function renew() {
    const reply = await ask(`${box.dataset.label}?holding=${inHand()}`);
    if (!reply?.section || reply.foreign) return;
    learn(reply);
    if (slotOf(reply.section)) place(reply.section);
  }
  async function send(entry) {
    const body = new FormData();
    for (const [name, value] of entry.fields) body.append(name, value);
    body.set("holding", inHand(entry.slot));
    body.set("csrfmiddlewaretoken", token);
    const reply = await ask(box.dataset.label, body);
    stuck = trouble(reply);
    if (stuck) return false;
    wait = FIRST_WAIT;
    learn(reply);
    if (reply.saved) {
      drop(entry);
      saved(reply);
    } else {
      refused(entry, reply);
    }
    return true;
  }
  function trouble(reply) {
    if (!reply || reply.status >= 500) return "offline";
    if (reply.consent) return "consent";
    if (!reply.ours) return "refused";
    return reply.foreign ? "other" : "";
  }
  function saved(reply) {
    hear(reply.section);
    const words = reply.section.dataset.announce;
    byId("told").replaceChildren(...reply.section.querySelectorAll("#outcome")); // about the item before, not the next
    place(reply.section);
    dress();
    byId("live").textContent = words;
    toast(words);
  }
  // 409 and 422: about the item on screen as ever; about one that has gone from it, with a way back.
  function refused(entry, reply) {
    const words = reply.section.querySelector("#problem").textContent;
    if (isWaiting() && slotOf(reply.section) === entry.slot) {
      drop(entry);
      hear(reply.section);
      show(reply.section);
      problem(words);
      return;
    }
    keep({ ...entry, refusal: words });
    if (slotOf(reply.section) !== entry.slot) place(reply.section);
  }

  // What is kept here, said in words.
  function tell() {
    const count = unsent().length;
    const kept = byId("kept");
    const data = kept.dataset;
    kept.hidden = !count || !stuck;
    const words = kept.hidden ? "" : `${count === 1 ? data.one : data.many.replace("%n", count)} ${data[stuck]}`;
    if (kept.textContent !== words) kept.textContent = words;
    byId("to-consent").hidden = kept.hidden || stuck !== "consent";
    if (count && stuck && isWaiting()) showWaiting();
    dress();
    const refusals = new Map(entries().filter((entry) => entry.refusal).map((entry) => [`refused-${entry.id}`, entry]));
    for (const row of [...byId("refused").children]) if (!refusals.delete(row.id)) row.remove();
    byId("refused").append(...[...refusals.values()].map(asRefused));
  }
  function asRefused(entry) {
    const row = byId("refusal").content.firstElementChild.cloneNode(true);
    row.id = `refused-${entry.id}`;
    row.querySelector(".words").textContent = entry.refusal;
    row.querySelector("q").textContent = entry.asked;
    row.querySelector("[value=back]").hidden = !entry.html;
    row.querySelector("[value=back]").addEventListener("click", () => bringBack(entry));
    row.querySelector("[value=drop]").addEventListener("click", () => { drop(entry); tell(); });
    return row;
  }
  // The answer becomes a draft of its item, and the item is shown; what was on screen comes after it.
  function bringBack(entry) {
    const part = read(entry.html);
    if (!part) return;
    part.querySelector("[name=active_seconds]").value = entry.fields.find(([name]) => name === "active_seconds")?.[1] ?? "";
    const draft = JSON.stringify({ revision: Date.now(), fields: entry.fields });
    localStorage.setItem(`${box.dataset.key}:draft:${entry.slot}`, draft);
    drop(entry);
    for (const other of [...ahead.children]) if (slotOf(other) === entry.slot) other.remove();
    show(part, { aside: slotOf(section()) !== entry.slot && !isWaiting() });
    tell();
  }

  // Undo: what is not sent yet is taken out again; what is saved is withdrawn by the server.
  let undoing = false;
  async function takeUndo(event) {
    stop(event);
    if (undoing) return;
    undoing = true;
    byId("toast").hidden = true;
    let last = unsent().at(-1);
    if (last && last.id === sending) {
      await running;
      last = unsent().find((entry) => entry.id === last.id);
    }
    if (last?.html) bringBack(last);
    else await undo(event.target.action);
    undoing = false;
  }
  async function undo(url) {
    const body = new FormData();
    body.set("csrfmiddlewaretoken", token);
    const reply = await ask(url, body);
    if (!reply?.section || reply.foreign) return problem(reply ? box.dataset.tooOld : box.dataset.trouble);
    learn(reply);
    hear(reply.section);
    const words = reply.section.querySelector("#problem").textContent;
    for (const other of [...ahead.children]) if (slotOf(other) === slotOf(reply.section)) other.remove();
    if (slotOf(reply.section) === slotOf(section())) dress();
    else show(reply.section, { aside: true });
    byId("live").textContent = reply.section.dataset.announce ?? "";
    return problem(words);
  }
  let countdown = 0;
  function toast(words) {
    const bar = byId("toast");
    let left = UNDO_SECONDS;
    clearInterval(countdown);
    bar.querySelector(".words").textContent = words;
    bar.hidden = false;
    const count = () => {
      const below = document.querySelector(".bar")?.offsetHeight; // the bar grows and shrinks with what is asked
      if (below) bar.style.bottom = `${below + 16}px`;
      bar.querySelector(".left").textContent = `${left} s`;
      if (left === 0 || !byId("undo")) bar.hidden = true;
      if (bar.hidden) clearInterval(countdown);
      left -= 1;
    };
    count();
    countdown = setInterval(count, 1000);
  }
  byId("toast").querySelector("button").addEventListener("click", () => byId("undo")?.requestSubmit());

  // What htmx still does: skips, and answers of a browser that keeps nothing.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const reply = event.detail.xhr;
    const kind = reply.getResponseHeader("X-Section");
    if (kind === "guidelines") return ahead.querySelectorAll("#news").forEach((news) => news.remove());
    event.detail.shouldSwap = kind === "comparison";
    event.detail.isError = kind !== "comparison";
    if (kind === "comparison") return undefined;
    return problem(reply.status === 403 || reply.status === 200 ? box.dataset.tooOld : box.dataset.trouble);
  });
  document.addEventListener("htmx:sendError", () => problem(box.dataset.trouble));
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target.id !== "comparison") return;
    hear(section());
    for (const other of [...ahead.children]) if (slotOf(other) === slotOf(section())) other.remove();
    window.scrollTo(0, 0);
    byId("prompt")?.focus({ preventScroll: true });
    byId("live").textContent = section().dataset.announce || "";
    begin();
  });

  // The prompt is pinned below what is said here.
  new ResizeObserver(() => document.documentElement.style.setProperty("--kept", `${box.offsetHeight}px`)).observe(box);
  window.addEventListener("online", () => { wait = FIRST_WAIT; drain(); });
  window.addEventListener("storage", (event) => { if (event.key?.startsWith(ANSWERS)) tell(); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && unsent().length) drain(); });
  document.addEventListener("DOMContentLoaded", () => {
    const left = unsent();
    if (left.some((entry) => entry.slot === slotOf(section()))) showWaiting();
    else begin();
    tell();
    if (left.length) drain();
  });
  sources.set(section(), section().outerHTML);
  hear(section());
})();
