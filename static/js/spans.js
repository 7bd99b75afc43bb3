// Pieces of text that a labeler marks with a reason. The hidden field holds them as JSON; offsets count code points of the
// raw text, and are left to the server where the rendered text was marked.
const field = () => document.querySelector("[name=spans]");
const menu = () => document.getElementById("span-menu");
const read = () => JSON.parse(field().value || "[]");
const points = (text) => [...text].length;
let candidate = null;

function problem(text) {
  const box = document.getElementById("problem");
  box.textContent = text;
  box.hidden = !text;
  if (text) box.scrollIntoView({ block: "nearest" });
}

function write(spans) {
  field().value = spans.length ? JSON.stringify(spans) : "";
  field().dispatchEvent(new Event("change", { bubbles: true }));
  draw();
}

// Where a selection stands: null unless it lies in one response.
function placed(range) {
  const inside = range?.commonAncestorContainer;
  const element = inside?.nodeType === Node.ELEMENT_NODE ? inside : inside?.parentElement;
  const source = element?.closest(".response .body > :is(.text, .raw, .words)");
  const quote = range?.toString() || "";
  if (!source || !quote.trim()) return null;
  const span = { place: Number(source.closest(".response").dataset.place), start: null, end: null, quote };
  if (!source.matches(".text")) {
    const before = document.createRange();
    before.setStart(source, 0);
    before.setEnd(range.startContainer, range.startOffset);
    span.start = points(before.toString());
    span.end = span.start + points(quote);
  }
  return span;
}

export function choose(range) {
  candidate = placed(range);
  problem(candidate ? "" : menu().querySelector("[data-select]").dataset.select);
  if (!candidate) return;
  menu().querySelector("blockquote").textContent = candidate.quote;
  menu().showModal();
}

document.addEventListener("click", ({ target }) => {
  const reason = target.closest("#span-menu .span-reasons button");
  const removed = target.closest("[data-unmark]");
  if (reason && candidate) {
    menu().close();
    write([...read(), { ...candidate, reason: reason.value }]);
  }
  if (removed) write(read().filter((_, at) => at !== Number(removed.dataset.unmark)));
});
document.addEventListener("keydown", (event) => {
  if (menu()?.open) menu().querySelector(`[data-key="${CSS.escape(event.key)}"]`)?.click();
});
document.addEventListener("labelapp:view", () => field() && draw());

function row(span, at) {
  const item = document.createElement("li");
  const quote = document.createElement("q");
  const reason = document.createElement("b");
  const remove = document.createElement("button");
  quote.textContent = span.quote;
  quote.dir = "auto";
  reason.textContent = span.reason;
  Object.assign(remove, { type: "button", className: "tool", textContent: "×" });
  remove.dataset.unmark = at;
  remove.setAttribute("aria-label", `${menu().querySelector("[data-remove]").dataset.remove}: ${span.reason}`);
  item.append(quote, " ", reason, " ", remove);
  return item;
}

// The range of [start, end) in UTF-16 units of a box's text.
function rangeIn(box, start, end) {
  const range = document.createRange();
  const walker = document.createTreeWalker(box, NodeFilter.SHOW_TEXT);
  let at = 0;
  while (walker.nextNode()) {
    const length = walker.currentNode.data.length;
    if (start >= at && start < at + length) range.setStart(walker.currentNode, start - at);
    if (end > at && end <= at + length) {
      range.setEnd(walker.currentNode, end - at);
      return range;
    }
    at += length;
  }
  return null;
}

function shownRange(card, span) {
  const box = card.querySelector(".body > :is(.text, .raw, .words):not([hidden])");
  const text = box.textContent;
  const exact = span.start !== null && !box.matches(".text");
  const start = exact ? [...text].slice(0, span.start).join("").length : text.indexOf(span.quote);
  return start < 0 ? null : rangeIn(box, start, start + span.quote.length);
}

export function draw() {
  const ranges = [];
  const spans = read();
  for (const list of document.querySelectorAll("[data-marks]")) {
    const card = list.closest(".response");
    const mine = spans.map((span, at) => [span, at]).filter(([span]) => String(span.place) === list.dataset.marks);
    list.replaceChildren(...mine.map(([span, at]) => row(span, at)));
    list.hidden = !mine.length;
    ranges.push(...mine.map(([span]) => shownRange(card, span)).filter(Boolean));
  }
  if (CSS.highlights) CSS.highlights.set("marked", new Highlight(...ranges));
}
