// A part of a page that keeps itself up to date: htmx asks for it again every data-live seconds, while somebody looks.
"use strict";

const part = () => document.querySelector("[data-live]");
let kept = null; // what a swap would take away: unfolded details, the focus, how far tables were scrolled

setInterval(ask, Number(part()?.dataset.live || 10) * 1000);

document.addEventListener("visibilitychange", ask); // whoever comes back sees what is true now

document.addEventListener("htmx:beforeSwap", () => {
  const ids = (selector) => [...part().querySelectorAll(selector)].map(({ id, scrollLeft }) => [id, scrollLeft]);
  kept = { open: ids("details[open][id]"), scrolled: ids(".scroll[id]"), focus: placeOf(document.activeElement) };
});

document.addEventListener("htmx:afterSwap", () => {
  kept.open.forEach(([id]) => document.getElementById(id)?.setAttribute("open", ""));
  kept.scrolled.forEach(([id, left]) => document.getElementById(id)?.scrollTo({ left, behavior: "instant" }));
  if (kept.focus !== null) focusable()[kept.focus]?.focus({ preventScroll: true });
});

function ask() {
  if (part() && !document.hidden) htmx.trigger(part(), "live");
}

function focusable() {
  return [...part().querySelectorAll("a, button, summary, [tabindex]")];
}

function placeOf(element) {
  return part().contains(element) ? focusable().indexOf(element) : null;
}
