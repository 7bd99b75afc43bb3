// Changing many comparisons: picks a page at once, says how many are picked, and shows only the fields of the action.
"use strict";

const NEEDS = { priority: ["priority"], batch: ["batch", "new", "priority", "deadline"], tags: ["tags"], overlap: ["overlap"], reask: ["note"] };
const action = document.getElementById("order_action");
const page = document.getElementById("pick-page");
const boxes = [...document.querySelectorAll("input[name=id]")];

function showFields() {
  for (const field of document.querySelectorAll("[data-order]")) {
    const { order } = field.dataset;
    field.hidden = order !== "action" && !(NEEDS[action.value] || []).includes(order);
  }
}

function sayPicked() {
  const picked = boxes.filter((box) => box.checked).length;
  document.getElementById("picked-words").dataset.count = picked;
  page.checked = picked > 0 && picked === boxes.length;
  page.indeterminate = picked > 0 && picked < boxes.length;
}

action?.addEventListener("change", showFields);
if (action) showFields();
if (page) {
  page.hidden = false;
  page.addEventListener("change", () => {
    boxes.forEach((box) => { box.checked = page.checked; });
    sayPicked();
  });
  boxes.forEach((box) => box.addEventListener("change", sayPicked));
}
