// The word diff of two responses, and scrolling them together.
const LONGEST_EDIT = 1500; // beyond it two texts have so little in common that only their own words are marked

const segmenter = window.Intl?.Segmenter && new Intl.Segmenter(undefined, { granularity: "word" });
const words = (text) => (segmenter ? [...segmenter.segment(text)].map((part) => part.segment) : text.split(/(\s+)/));

// The words of `a` and of `b` that the other lacks, as sets of indices (Myers 1986, "An O(ND) difference algorithm").
export function lacking(a, b) {
  const trace = [];
  let reach = new Map([[1, 0]]);
  for (let edits = 0; edits <= Math.min(a.length + b.length, LONGEST_EDIT); edits++) {
    trace.push(new Map(reach));
    for (let k = -edits; k <= edits; k += 2) {
      const down = k === -edits || (k !== edits && reach.get(k - 1) < reach.get(k + 1));
      let x = down ? reach.get(k + 1) : reach.get(k - 1) + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x++;
      reach.set(k, x);
      if (x >= a.length && x - k >= b.length) return walk(trace, a.length, b.length);
    }
  }
  const [inA, inB] = [new Set(a), new Set(b)];
  const own = (list, other) => new Set(list.flatMap((word, at) => (other.has(word) ? [] : [at])));
  return [own(a, inB), own(b, inA)];
}

function walk(trace, x, y) {
  const [onlyA, onlyB] = [new Set(), new Set()];
  for (let edits = trace.length - 1; edits > 0; edits--) {
    const reach = trace[edits];
    const k = x - y;
    const down = k === -edits || (k !== edits && reach.get(k - 1) < reach.get(k + 1));
    const from = down ? k + 1 : k - 1;
    const [fromX, fromY] = [reach.get(from), reach.get(from) - from];
    if (down) onlyB.add(fromY);
    else onlyA.add(fromX);
    [x, y] = [fromX, fromY];
  }
  return [onlyA, onlyB];
}

function fill(box, list, marked) {
  for (let at = 0; at < list.length; ) {
    let end = at;
    while (end < list.length && marked.has(end) === marked.has(at)) end++;
    const text = list.slice(at, end).join("");
    const part = marked.has(at) ? document.createElement("mark") : document.createTextNode(text);
    part.textContent = text;
    box.append(part);
    at = end;
  }
}

export function diff(cards) {
  if (cards.length !== 2 || cards[0].querySelector(".words")) return;
  const lists = cards.map((card) => words(card.querySelector(".raw").textContent));
  const marked = lacking(...lists);
  cards.forEach((card, side) => {
    const box = document.createElement("pre");
    box.className = "words";
    box.dir = "auto";
    fill(box, lists[side], marked[side]);
    card.querySelector(".raw").after(box);
  });
}

let follower = null; // the column that this script scrolls: its own event is not followed
document.addEventListener("scroll", ({ target }) => {
  if (!target.matches?.(".together .body")) return;
  if (target === follower) {
    follower = null;
    return;
  }
  for (const other of target.closest(".together").querySelectorAll(".body")) {
    if (other === target) continue;
    const share = target.scrollTop / Math.max(1, target.scrollHeight - target.clientHeight);
    const top = Math.round(share * (other.scrollHeight - other.clientHeight));
    if (Math.abs(other.scrollTop - top) > 1) [follower, other.scrollTop] = [other, top];
  }
}, { capture: true, passive: true });

export function together(responses, on) {
  responses.classList.toggle("together", on);
  for (const body of responses.querySelectorAll(".body")) {
    if (on) body.tabIndex = 0;
    else body.removeAttribute("tabindex");
  }
}
