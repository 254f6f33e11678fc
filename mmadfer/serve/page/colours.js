// Colours and patterns of labels and values; a label is told by both, and by its name.

import { svg } from "./dom.js";

// As mmadfer/utils/colours.py: black is read on each of them.
export const PALETTE = ["#3b82c4", "#e0812b", "#2f9e6e", "#c2557f", "#8a6fd1", "#9a8b25", "#2aa5b8"];

const LIGHT = "rgba(255,255,255,.5)"; // lighter than the colour, so that black stays readable on it
const PATTERNS = [
  [],
  ["M0 8L8 0M-2 2L2 -2M6 10L10 6"],
  ["M0 4H8"],
  ["M4 0V8"],
  ["M0 0L8 8M-2 6L2 10M6 -2L10 2"],
  ["M0 4H8M4 0V8"],
  ["M0 8L8 0M0 0L8 8"],
];
const DASHES = ["", "7 3", "2 3", "9 3 2 3", "12 4", "4 2", "1 4"];

// What the k-th of the model's labels looks like; pairs of colour and pattern differ for the first 49.
export function look(k) {
  const colour = k % PALETTE.length;
  const pattern = (colour + Math.floor(k / PALETTE.length)) % PATTERNS.length;
  return { colour: PALETTE[colour], pattern: `url(#pattern-${pattern})`, dash: DASHES[pattern] };
}

export function looks(names) {
  return new Map(names.map((name, k) => [name, look(k)]));
}

// Patterns that the page's drawings share; kept out of sight.
export function addPatterns() {
  const patterns = PATTERNS.map((paths, k) => svg("pattern",
    { id: `pattern-${k}`, width: 8, height: 8, patternUnits: "userSpaceOnUse" },
    ...paths.map((d) => svg("path", { d, stroke: LIGHT, "stroke-width": 2, fill: "none" }))));
  document.body.append(svg("svg", { width: 0, height: 0, class: "patterns", "aria-hidden": "true" },
    svg("defs", {}, ...patterns)));
}

export function swatch({ colour, pattern, dash }, line) {
  const icon = svg("svg", { class: "swatch", width: 22, height: 14, "aria-hidden": "true" });
  if (line) {
    icon.append(svg("line", { x1: 0, y1: 7, x2: 22, y2: 7, stroke: colour, "stroke-width": 3, "stroke-dasharray": dash }));
  } else {
    icon.append(...[colour, pattern].map((fill) => svg("rect", { width: 22, height: 14, rx: 3, fill })));
  }
  return icon;
}
