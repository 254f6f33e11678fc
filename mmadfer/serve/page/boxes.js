// Boxes with labels over a picture, placed in shares of it.

import { el, setText } from "./dom.js";

export class Boxes {
  constructor(node) {
    this.node = node;
    this.drawn = new Map();
  }

  // places: [{person, box: [x0, y0, x1, y1], text, colour, chosen}]
  show(places) {
    const gone = new Set(this.drawn.keys());
    for (const place of places) {
      gone.delete(place.person);
      this.#place(this.#of(place.person), place);
    }
    for (const person of gone) {
      this.drawn.get(person).remove();
      this.drawn.delete(person);
    }
  }

  #of(person) {
    if (!this.drawn.has(person)) {
      const box = el("div", { class: "box" }, el("span", {}));
      this.drawn.set(person, box);
      this.node.append(box);
    }
    return this.drawn.get(person);
  }

  #place(node, { box: [x0, y0, x1, y1], text, colour, chosen }) {
    const sides = { left: x0, top: y0, width: x1 - x0, height: y1 - y0 };
    for (const [side, share] of Object.entries(sides)) node.style[side] = `${(100 * share).toFixed(2)}%`;
    node.style.setProperty("--colour", colour);
    node.classList.toggle("chosen", Boolean(chosen));
    node.classList.toggle("low", y0 < 0.12); // no room above it
    node.classList.toggle("right", x0 + x1 > 1.1); // the words grow to the left
    setText(node.firstChild, text);
  }
}
