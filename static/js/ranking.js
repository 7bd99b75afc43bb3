// Dragging a response by its grip onto a rank, or onto another response to tie with it.
function rankUnder(x, y, place) {
  const found = document.elementFromPoint(x, y);
  const slot = found?.closest("#slots [data-rank]");
  const card = found?.closest(".response");
  const tied = card && card.dataset.place !== place ? card.querySelector(".rank input:checked") : null;
  return { over: slot || (tied ? card : null), rank: slot?.dataset.rank || tied?.value };
}

function follow(grip, pointer) {
  const place = grip.dataset.grip;
  const card = grip.closest(".response");
  const label = document.createElement("div");
  label.className = "dragged";
  label.textContent = card.querySelector("h2").textContent;
  document.body.append(label);
  card.classList.add("lifted");
  let target = {};
  const move = ({ clientX, clientY }) => {
    target.over?.classList.remove("over");
    Object.assign(label.style, { left: `${clientX + 12}px`, top: `${clientY + 12}px` });
    target = rankUnder(clientX, clientY, place);
    target.over?.classList.add("over");
  };
  const end = ({ type }) => {
    target.over?.classList.remove("over");
    card.classList.remove("lifted");
    label.remove();
    for (const [name, listener] of [["pointermove", move], ["pointerup", end], ["pointercancel", end]]) {
      grip.removeEventListener(name, listener);
    }
    const field = card.querySelector(`.rank input[value="${target.rank}"]`);
    if (type !== "pointerup" || !field) return;
    field.checked = true;
    field.dispatchEvent(new Event("change", { bubbles: true }));
  };
  grip.setPointerCapture(pointer.pointerId);
  grip.addEventListener("pointermove", move);
  grip.addEventListener("pointerup", end);
  grip.addEventListener("pointercancel", end);
}

document.addEventListener("pointerdown", (event) => {
  const grip = event.target.closest("[data-grip]");
  if (!grip) return;
  event.preventDefault();
  follow(grip, event);
});
