// Probabilities or values as bars that move; each has its name and number as text.

import { el, percent, setText } from "./dom.js";
import { swatch } from "./colours.js";

export class Bars {
  // `looks`: of labels or values by name, in the order of the bars; `ranges`: of values by name, or null for labels.
  constructor(node, looks, ranges) {
    this.ranges = ranges;
    this.rows = new Map();
    node.replaceChildren();
    for (const [name, look] of looks) {
      const fill = el("span", { class: "fill" });
      fill.style.background = look.colour;
      const number = el("span", { class: "number numbers" }, "–");
      node.append(el("li", {}, swatch(look, Boolean(ranges)), el("bdi", {}, name),
        el("span", { class: "track", "aria-hidden": "true" }, fill), number));
      this.rows.set(name, { fill, number });
    }
  }

  // Numbers by name; of {} all are empty.
  show(numbers) {
    for (const [name, { fill, number }] of this.rows) {
      const value = numbers?.[name];
      const known = value !== undefined;
      const [left, width] = known ? this.#extent(name, value) : [0, 0];
      fill.style.left = `${100 * left}%`;
      fill.style.width = `${100 * width}%`;
      setText(number, known ? (this.ranges ? value.toFixed(2) : percent(value)) : "–");
    }
  }

  // Values grow from 0 where their range holds it.
  #extent(name, value) {
    if (!this.ranges) return [0, value];
    const [low, high] = this.ranges[name];
    const share = (one) => Math.min(1, Math.max(0, (one - low) / (high - low || 1)));
    const [zero, end] = [share(0), share(value)];
    return [Math.min(zero, end), Math.abs(end - zero)];
  }
}
