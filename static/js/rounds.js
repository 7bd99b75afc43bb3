// A running round: its server-sent events move what the server has drawn. Without this script the page is a snapshot.
"use strict";

const page = document.getElementById("round");
const address = page?.dataset.events; // none once the round is over
const shared = address ? new BroadcastChannel(`round ${location.pathname}`) : null;
const over = new AbortController(); // ends this tab's wait for the stream
const listeners = {};
let source = null;

function on(name, told) {
  listeners[name] = told;
}

shared?.addEventListener("message", ({ data: { name, told } }) => listeners[name](told));

function listen() {
  if (over.signal.aborted) return;
  source = new EventSource(address);
  for (const name of Object.keys(listeners)) {
    source.addEventListener(name, (event) => {
      const told = JSON.parse(event.data);
      shared.postMessage({ name, told });
      listeners[name](told);
    });
  }
}

function leave() {
  over.abort();
  source?.close();
}

let known = null; // how many things had happened when the page was told last

on("progress", ({ state, moves, html }) => {
  const tag = page.querySelector("[data-state]");
  tag.textContent = state;
  tag.className = `tag ${state}`;
  document.getElementById("progress").outerHTML = html;
  if (known !== null && known !== moves) refresh("files", "history");
  known = moves;
});

on("metrics", ({ curves }) => {
  const known = Object.entries(curves).every(([stage, drawings]) => draw(stage, drawings));
  if (!known) refresh("plots"); // a stage's first metrics: the server lays out its section
});

on("samples", ({ html }) => {
  const open = [...page.querySelectorAll("#samples details")].map((each) => each.open);
  document.getElementById("samples").outerHTML = html;
  page.querySelectorAll("#samples details").forEach((each, place) => (each.open = open[place] ?? false));
});

on("log", ({ text }) => {
  const log = document.getElementById("log");
  const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
  if (text) log.textContent = text;
  if (atEnd) log.scrollTop = log.scrollHeight; // follow, unless someone has scrolled up to read
});

on("end", () => {
  leave();
  refresh("round");
});

window.addEventListener("pagehide", leave);
window.addEventListener("pageshow", ({ persisted }) => persisted && address && location.reload()); // from the cache

/** Put the paths and words of a stage's curves in place; false where the page has no place for them. */
function draw(stage, drawings) {
  const section = page.querySelector(`[data-stage="${CSS.escape(stage)}"]`);
  return drawings.every((drawing) => {
    const plot = section?.querySelector(`[data-plot="${CSS.escape(drawing.key)}"]`);
    if (plot) place(plot, drawing);
    return Boolean(plot);
  });
}

function place(plot, drawing) {
  for (const name of ["raw", "smooth", "reference"]) {
    plot.querySelector(`[data-${name}]`).setAttribute("d", drawing[name]);
  }
  for (const name of ["text", "top", "bottom"]) {
    plot.querySelector(`[data-${name}]`).textContent = drawing[name];
  }
  plot.querySelector("svg").setAttribute("aria-label", drawing.summary);
}

/** Replace parts of the page with the server's present form of them. */
async function refresh(...ids) {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!answer.ok || answer.redirected) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const id of ids) {
    const part = fresh.getElementById(id);
    if (part) document.getElementById(id)?.replaceWith(part);
  }
}

// HTTP/1.1 allows a host six connections a browser, and an open stream keeps one: the tabs of a round share one stream.
// Whoever holds the lock has it and tells the others; when that tab closes, the next one opens its own. Where a browser
// has no locks (a page that came by plain HTTP from another machine), each tab has its own stream.
if (address) {
  const held = () => new Promise(() => listen()); // until this tab is closed or `leave` ends it
  if (navigator.locks) {
    navigator.locks.request(`round ${location.pathname}`, { signal: over.signal }, held).catch(() => {});
  } else {
    listen();
  }
}
