// One key a verdict: Y accepts, N opens the comment to return with, P passes over. Enter corrects, as in labeling.js.
(() => {
  "use strict";
  const byId = (id) => document.getElementById(id);
  const KEYS = {
    y: () => byId("accept").requestSubmit(),
    n: () => { byId("return").open = true; byId("comment").focus(); },
    p: () => byId("past").click(),
  };
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("textarea, select, input:not([type=radio], [type=checkbox], [type=range])");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
    if (localStorage.getItem("labelapp.keys") === "off") return;
    const act = KEYS[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    act();
  });
})();
