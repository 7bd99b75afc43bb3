// Unfinished answers: kept here at once and on the server half a second later. The newest one comes back with its item.
(() => {
  "use strict";
  const PAUSE = 500;
  const KEEP = 7 * 86400000; // ms after which a draft kept here is forgotten
  const OURS = ["csrfmiddlewaretoken", "claim", "slot", "submission_id", "active_seconds", "seen", "holding"];
  const byId = (id) => document.getElementById(id);
  const box = byId("outbox");
  if (!box) return;
  const PREFIX = `${box.dataset.key}:draft:`;
  const slotOf = (form) => form?.elements.slot?.value;
  let timer = 0;
  let unsaved = null; // the form that was changed last and is not on the server yet

  function keptHere(slot) {
    try { return JSON.parse(localStorage.getItem(PREFIX + slot)); } catch { return null; }
  }
  function forget(slot) {
    try { localStorage.removeItem(PREFIX + slot); } catch { /* forbidden: then nothing is there */ }
  }

  document.addEventListener("input", (event) => changed(event.target.form));
  document.addEventListener("change", (event) => changed(event.target.form));
  function changed(form) {
    if (!form || form !== byId("answer")) return;
    unsaved = form;
    clearTimeout(timer);
    timer = setTimeout(save, PAUSE);
  }

  function save() {
    clearTimeout(timer);
    const form = unsaved;
    unsaved = null;
    if (!form || form !== byId("answer")) return;
    const fields = [...new FormData(form)].filter(([name]) => !OURS.includes(name));
    const revision = Date.now();
    try { localStorage.setItem(PREFIX + slotOf(form), JSON.stringify({ revision, fields })); } catch { /* full */ }
    const body = new FormData();
    body.set("claim", form.elements.claim.value);
    body.set("csrfmiddlewaretoken", document.querySelector("[name=csrfmiddlewaretoken]").value);
    body.set("revision", revision);
    body.set("body", JSON.stringify({ ...together(fields), revision }));
    const small = body.get("body").length < 15000; // what browsers let a closing page send
    fetch(box.dataset.draft, { method: "POST", body, keepalive: small }).catch(() => {}); // it is kept here anyway
  }
  // Several values of one field as a list: the server reads a draft like a form.
  function together(fields) {
    const said = {};
    for (const [name, value] of fields) said[name] = name in said || name === "reasons" ? [said[name] ?? [], value].flat() : value;
    return said;
  }
  document.addEventListener("visibilitychange", () => { if (document.hidden) save(); });
  window.addEventListener("pagehide", save);

  document.addEventListener("labelapp:item", () => {
    const form = byId("answer");
    const draft = form && keptHere(slotOf(form));
    unsaved = null;
    if (draft && draft.revision > Number(byId("comparison").dataset.kept || 0)) fill(form, draft.fields);
  });
  function fill(form, fields) {
    for (const control of form.elements) {
      if (!control.name || OURS.includes(control.name)) continue;
      const said = fields.filter(([name]) => name === control.name).map(([, value]) => value);
      if (["radio", "checkbox"].includes(control.type)) control.checked = said.includes(control.value);
      else if (control.type !== "submit") control.value = said[0] ?? "";
      if (control.type === "textarea" && control.value) control.closest("details")?.setAttribute("open", "");
    }
  }

  document.addEventListener("labelapp:answered", (event) => {
    clearTimeout(timer);
    unsaved = null;
    forget(event.detail.slot);
  });
  function tidy() {
    for (const key of Object.keys(localStorage).filter((name) => name.startsWith(PREFIX))) {
      const slot = key.slice(PREFIX.length);
      if (Date.now() - (keptHere(slot)?.revision ?? 0) > KEEP) forget(slot);
    }
  }
  try { tidy(); } catch { /* a browser that keeps nothing */ }
})();
