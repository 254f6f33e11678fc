// The time of a video from left to right: a row for each person, with stretches in colour, or curves of values.

import { clock, svg, visible } from "./dom.js";
import { predicted, said, stretchAt } from "./stretches.js";

const PAD = 8; // pixels at both sides
const NAME = 18; // height of a person's name
const ROW = { labels: 30, values: 90 };
const AXIS = 28;
const MOST_POINTS = 2000; // of a curve
const LETTER = 7.2; // width of a letter, about
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600];

export class Timeline {
  // `onSeek(seconds)` and `onPlay()` are called by mouse and keyboard, `onPerson(number)` by a click on a row.
  constructor(node, { onSeek, onPlay, onPerson }) {
    Object.assign(this, { node, onSeek, onPlay, onPerson, rows: [], span: [0, 0], time: 0 });
    node.addEventListener("pointerdown", (event) => this.#press(event));
    node.addEventListener("pointermove", (event) => event.buttons === 1 && this.#point(event));
    node.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#draw()).observe(node);
  }

  // rows: [{person, name, told}], told being stretches; looks: of labels or values by name;
  // ranges: of values, or null for labels; series: {seconds, values} or null.
  set(rows, span, looks, ranges, series) {
    Object.assign(this, { rows, span, looks, ranges, series });
    this.#draw();
    this.moveTo(this.time);
  }

  clear() {
    Object.assign(this, { rows: [], span: [0, 0], time: 0, head: null });
    this.node.replaceChildren();
  }

  choose(person) {
    this.chosen = person;
    this.#draw();
  }

  // While it plays, only the line moves: a screen reader would read out every picture.
  moveTo(time, playing = false) {
    this.time = time;
    const [begin, end] = this.span;
    const at = Math.min(end, Math.max(begin, time));
    this.head?.setAttribute("transform", `translate(${this.#x(at).toFixed(1)} 0)`);
    if (playing) return;
    const row = this.#row();
    const one = row && stretchAt(row.told, at);
    const words = one && predicted(one.segment) ? said(one.segment) : "no prediction";
    const values = { min: begin, max: end, now: at, text: visible(`${clock(at)}: ${words}`) };
    for (const [name, value] of Object.entries(values)) {
      this.node.setAttribute(`aria-value${name}`, typeof value === "number" ? value.toFixed(2) : value);
    }
  }

  #row() {
    return this.rows.find((row) => row.person === this.chosen) ?? this.rows[0];
  }

  #width() {
    return Math.max(120, this.node.clientWidth) - 2 * PAD;
  }

  #x(time) {
    const [begin, end] = this.span;
    return PAD + (end > begin ? ((time - begin) / (end - begin)) * this.#width() : 0);
  }

  #press(event) {
    const group = event.target.closest("[data-row]");
    if (group) this.onPerson(this.rows[Number(group.dataset.row)].person);
    this.#point(event);
  }

  #point(event) {
    const [begin, end] = this.span;
    const share = (event.clientX - this.node.getBoundingClientRect().left - PAD) / this.#width();
    this.onSeek(begin + Math.min(1, Math.max(0, share)) * (end - begin));
  }

  #key(event) {
    const [begin, end] = this.span;
    const step = Math.max(0.1, Math.min(1, (end - begin) / 20));
    const to = {
      ArrowRight: this.time + step, ArrowUp: this.time + step, ArrowLeft: this.time - step, ArrowDown: this.time - step,
      PageDown: this.#change(1), PageUp: this.#change(-1), Home: begin, End: end,
    }[event.key];
    if (to === undefined && event.key !== " ") return;
    event.preventDefault();
    if (event.key === " ") this.onPlay();
    else this.onSeek(Math.min(end, Math.max(begin, to)));
  }

  // The next or last time at which the chosen row changes.
  #change(direction) {
    const starts = this.ranges ? this.#row().told.map((one) => one.start) : runs(this.#row().told).map((one) => one.start);
    const ahead = starts.filter((start) => direction * (start - this.time) > 0.01);
    return ahead.at(direction > 0 ? 0 : -1) ?? this.span[direction > 0 ? 1 : 0];
  }

  #draw() {
    if (!this.rows.length) return;
    const height = this.#rowHeight();
    const total = this.rows.length * height + AXIS;
    const root = svg("svg", { width: this.#width() + 2 * PAD, height: total, "aria-hidden": "true" });
    this.rows.forEach((row, k) => root.append(this.#drawRow(row, k, k * height)));
    root.append(this.#axis(total - AXIS));
    const foot = total - AXIS;
    this.head = svg("g", { class: "head" },
      svg("line", { y1: 0, y2: foot + 4 }), svg("path", { d: `M-5 ${foot + 9}L0 ${foot + 1}L5 ${foot + 9}Z` }));
    root.append(this.head);
    this.node.replaceChildren(root);
    this.head.setAttribute("transform", `translate(${this.#x(this.time).toFixed(1)} 0)`);
  }

  #rowHeight() {
    return (this.rows[0].name ? NAME : 4) + (this.ranges ? ROW.values : ROW.labels) + 6;
  }

  #drawRow(row, k, top) {
    const chosen = this.rows.length > 1 && row.person === this.#row().person;
    const group = svg("g", { "data-row": k, class: chosen ? "row chosen" : "row" });
    const y = top + (row.name ? NAME : 4);
    if (row.name) group.append(svg("text", { x: PAD, y: y - 5, class: "name" }, chosen ? `▸ ${row.name}` : row.name));
    const height = this.ranges ? ROW.values : ROW.labels;
    group.append(svg("rect", { x: PAD, y, width: this.#width(), height, class: "floor" }));
    if (this.ranges) group.append(...this.#curves(row, y, height));
    else group.append(...this.#seen(runs(row.told)).map((run) => this.#run(run, y, height)));
    return group;
  }

  // Without those that share a pixel with the one before.
  #seen(all) {
    let last = -1;
    return all.filter(({ start, end }) => {
      const seen = this.#x(end) - this.#x(start) >= 1 || this.#x(start) >= last + 1;
      if (seen) last = this.#x(start);
      return seen;
    });
  }

  #run({ start, end, label, why }, y, height) {
    const x = this.#x(start);
    const width = Math.max(1, this.#x(end) - x);
    const box = { x: x.toFixed(1), y, width: width.toFixed(1), height };
    const title = svg("title", {}, `${clock(start)} to ${clock(end)}: ${label ?? why}`);
    const text = fitting(label ?? why, width);
    const { colour, pattern } = this.looks.get(label) ?? {};
    const words = svg("text", { x: x + 5, y: y + height / 2 + 4.5, class: label ? "on" : "off", stroke: colour }, text);
    if (!label) return svg("g", {}, svg("rect", { ...box, class: "gap" }), words, title);
    return svg("g", {}, svg("rect", { ...box, fill: colour }), svg("rect", { ...box, fill: pattern, class: "edge" }), words, title);
  }

  #curves(row, y, height) {
    const ranges = Object.values(this.ranges);
    const [low, high] = [Math.min(...ranges.map((one) => one[0])), Math.max(...ranges.map((one) => one[1]))];
    const place = (value) => (y + height * (1 - (value - low) / (high - low || 1))).toFixed(1);
    const drawn = low < 0 && high > 0 ? [svg("line", { x1: PAD, x2: PAD + this.#width(), y1: place(0), y2: place(0), class: "zero" })] : [];
    for (const [name, { colour, dash }] of this.looks) {
      for (const line of lines(row, name, this.series)) {
        const points = line.map(([time, value]) => `${this.#x(time).toFixed(1)},${place(value)}`);
        drawn.push(svg("polyline", { points: points.join(" "), stroke: colour, "stroke-dasharray": dash, class: "curve" }, svg("title", {}, name)));
      }
    }
    return drawn;
  }

  #axis(y) {
    const [begin, end] = this.span;
    const most = Math.max(2, this.#width() / 70);
    const step = STEPS.find((one) => (end - begin) / one <= most) ?? 7200;
    const group = svg("g", { class: "axis" });
    for (let tick = Math.ceil(begin / step) * step; tick <= end + 1e-6; tick += step) {
      const x = this.#x(tick);
      const anchor = x > PAD + this.#width() - 20 ? "end" : x < PAD + 12 ? "start" : "middle";
      group.append(svg("line", { x1: x, x2: x, y1: y, y2: y + 4 }));
      group.append(svg("text", { x, y: y + 23, "text-anchor": anchor }, clock(tick).replace(/\.0( s)?$/, "$1")));
    }
    return group;
  }
}

function fitting(text, width) {
  const shown = visible(text);
  const room = Math.floor((width - 8) / LETTER);
  if (shown.length <= room) return shown;
  return room >= 4 ? `${shown.slice(0, room - 1)}…` : "";
}

// Neighbouring stretches of one label as one.
export function runs(told) {
  const found = [];
  for (const { start, end, segment } of told) {
    const last = found.at(-1);
    const label = segment.label || null;
    const why = segment.notes?.join("; ") || "no prediction";
    if (last && last.label === label && (label || last.why === why) && start - last.end < 1e-6) last.end = end;
    else if (end > start) found.push({ start, end, label, why });
  }
  return found;
}

// As many points as can be seen: of neighbours their mean.
function fewer(points) {
  const step = Math.ceil(points.length / MOST_POINTS);
  if (step <= 1) return points;
  const groups = Array.from({ length: Math.ceil(points.length / step) }, (_, k) => points.slice(k * step, (k + 1) * step));
  const mean = (group, side) => group.reduce((sum, point) => sum + point[side], 0) / group.length;
  return groups.map((group) => [mean(group, 0), mean(group, 1)]);
}

// Pieces of a curve, as [[time, value]]; broken where nothing is predicted.
function lines(row, name, series) {
  if (series) return [fewer(series.seconds.map((time, k) => [time, series.values[name][k]]))];
  const pieces = [[]];
  for (const { start, end, segment } of row.told) {
    if (predicted(segment)) pieces.at(-1).push([start, segment.values[name]], [end, segment.values[name]]);
    else pieces.push([]);
  }
  return pieces.filter((piece) => piece.length);
}

