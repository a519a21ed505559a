// What a number means, one hover, focus or tap away: whatever has data-term or data-entry shows the dictionary's words.

import { createSentence, entryOf } from "./dictionary.js";
import { byId, say, show } from "./document.js";
import { language, word } from "./words.js";

const WAIT_MS = 250;
const EDGE = 8;

// Of what is no term of the glossary: the page's own words, or those that the place itself has in data-note.
const OWN = { live: () => word("live_meaning"), differs: (node) => node.dataset.note };

let shownAt = null;
let waiting = 0;

const termAt = (target) => (target instanceof Element ? target.closest("[data-term], [data-entry]") : null);

export function explain() {
  const card = byId("meaning");
  addEventListener("pointerover", (event) => {
    if (event.pointerType !== "mouse" || card.contains(event.target)) return;
    clearTimeout(waiting);
    const node = termAt(event.target);
    waiting = setTimeout(() => (node ? open(node) : close()), WAIT_MS);
  });
  card.addEventListener("pointerover", () => clearTimeout(waiting));
  addEventListener("click", (event) => {
    const node = termAt(event.target);
    clearTimeout(waiting);
    if (node && (node !== shownAt || card.hidden)) open(node);
    else if (!card.contains(event.target)) close();
  });
  addEventListener("focusin", (event) => (termAt(event.target)?.matches("button") ? open(termAt(event.target)) : close()));
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
    if (event.target.matches?.(".key")) rove(event);
  });
  addEventListener("scroll", close, { capture: true, passive: true });
}

function open(node) {
  const { title, meaning, counted } = entryOf(node.dataset) ?? { title: "", meaning: OWN[node.dataset.term]?.(node), counted: [] };
  if (!meaning) return;
  const card = byId("meaning");
  say(card.querySelector("b"), title);
  say(card.querySelector("p"), meaning);
  card.querySelector("ul").replaceChildren(...counted.map(createSentence));
  card.lang = language;
  show(card, true);
  place(card, node.getBoundingClientRect());
  shownAt?.removeAttribute("aria-describedby");
  node.setAttribute("aria-describedby", "meaning");
  shownAt = node;
}

// The legend is one stop of the Tab key; arrows go on within it.
function rove(event) {
  const keys = [...event.target.parentElement.querySelectorAll(".key")];
  const last = keys.length - 1;
  const at = keys.indexOf(event.target);
  const to = { ArrowLeft: Math.max(0, at - 1), ArrowRight: Math.min(last, at + 1), Home: 0, End: last }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  keys.forEach((key, place) => { key.tabIndex = place === to ? 0 : -1; });
  keys[to].focus();
}

function place(card, around) {
  const [wide, tall] = [card.offsetWidth, card.offsetHeight];
  const below = around.bottom + EDGE + tall < innerHeight;
  card.style.left = `${Math.max(EDGE, Math.min(around.left, document.documentElement.clientWidth - wide - EDGE))}px`;
  card.style.top = `${below ? around.bottom + EDGE : Math.max(EDGE, around.top - EDGE - tall)}px`;
}

function close() {
  shownAt?.removeAttribute("aria-describedby");
  shownAt = null;
  show(byId("meaning"), false);
}
