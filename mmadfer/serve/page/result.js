// One video's result: what is said at each moment over the picture, beside it and below it.

import { Bars } from "./bars.js";
import { Boxes } from "./boxes.js";
import { looks, swatch } from "./colours.js";
import { byId, clock, el, list, setText, show, visible } from "./dom.js";
import { Player } from "./player.js";
import { boxAt, byPerson, lastAt, predicted, said, stretchAt, stretches, track } from "./stretches.js";
import { Timeline, runs } from "./timeline.js";

const MOST_BARS = 12; // labels that get a bar: those with the highest mean
const MOST_ROWS = 2000; // of the table
const DRAW_EVERY = 250; // milliseconds, while windows come in
const MOST_PEOPLE = 8; // rows of the timeline, as mmadfer/runtime/stretches.py

export class Result {
  constructor(model) {
    this.model = model;
    this.ranges = model.output === "values" ? model.values : null;
    this.looks = looks(this.ranges ? Object.keys(model.values) : model.labels);
    this.boxes = new Boxes(byId("boxes"));
    this.player = new Player({ video: byId("video"), stage: byId("stage"), message: byId("unplayable") }, (time) => this.#at(time));
    this.timeline = new Timeline(byId("timeline"), {
      onSeek: (time) => this.player.seek(time), onPlay: () => this.player.toggle(), onPerson: (person) => this.#choose(person),
    });
    byId("people").addEventListener("change", (event) => this.#choose(Number(event.target.value)));
    byId("table-body").addEventListener("click", (event) => {
      if (event.target.dataset.time) this.player.seek(Number(event.target.dataset.time));
    });
  }

  // Nothing is shown.
  clear() {
    this.#undraw();
    this.player.close();
    show(byId("result"), false);
  }

  // A video of which nothing is known yet.
  begin(file) {
    this.clear();
    this.segments = [];
    this.told = this.series = this.chosen = null;
    this.total = 0; // seconds that the video is said to have
    this.tracks = new Map();
    setText(byId("result-title"), `Result for ${file.name}`);
    for (const id of ["whole", "now", "now-time"]) setText(byId(id), "");
    for (const id of ["bars", "now-notes", "notes", "legend", "table-body", "facts"]) byId(id).replaceChildren();
    for (const id of ["sentence", "people", "downloads", "table-part"]) show(byId(id), false);
    this.player.open(file);
    this.boxes.show([]);
  }

  // A segment that was predicted while others are still awaited.
  add(segment) {
    this.segments.push(segment);
    if (this.drawing) return;
    this.drawing = setTimeout(() => {
      this.drawing = null;
      const numbers = [...new Set(this.segments.map((one) => one.person))].filter(Boolean).sort((a, b) => a - b);
      this.#show({ segments: this.segments, people: numbers.map((person) => ({ person })), notes: [] }, []);
    }, DRAW_EVERY);
  }

  // All segments come again; what is drawn stays until they do.
  restart() {
    this.#undraw();
    this.segments = [];
  }

  #undraw() {
    clearTimeout(this.drawing);
    this.drawing = null;
  }

  // The whole of it; `job` as GET /jobs/{id} gives it.
  finish({ prediction, boxes }) {
    this.#undraw();
    this.total = 0;
    this.segments = prediction.segments;
    this.#show(prediction, boxes ?? []);
    this.#whole(prediction);
    this.#table(prediction);
    for (const id of ["downloads", "table-part"]) show(byId(id));
  }

  get summary() {
    return byId("whole").textContent;
  }

  #show(prediction, boxes) {
    this.series = prediction.series ?? null;
    this.told = new Map([...byPerson(prediction.people, prediction.segments)].map(([person, own]) => [person, stretches(own)]));
    const persons = [...this.told.keys()];
    if (!persons.includes(this.chosen)) this.chosen = persons[0];
    this.tracks = new Map(persons.map((person) => [person, track(boxes.filter((one) => (one.person ?? null) === person))]));
    this.#setBars(this.#barred(prediction.segments));
    const rows = mostShown(this.told).map((person) => ({ person, name: named(person), told: this.told.get(person) }));
    this.timeline.chosen = this.chosen;
    this.timeline.set(rows, this.#span(prediction.segments), this.looks, this.ranges, this.series);
    this.#legend();
    show(byId("result"));
    this.#at(this.player.time);
  }

  // The same bars go on moving; others begin anew.
  #setBars(barred) {
    const names = [...barred.keys()].join("\n");
    if (names !== this.barNames || !byId("bars").hasChildNodes()) this.bars = new Bars(byId("bars"), barred, this.ranges);
    this.barNames = names;
  }

  #barred(segments) {
    if (this.looks.size <= MOST_BARS) return this.looks;
    const sum = (name) => segments.reduce((total, one) => total + ((one.values ?? one.probabilities)[name] ?? 0), 0);
    const names = [...this.looks.keys()].sort((a, b) => sum(b) - sum(a)).slice(0, MOST_BARS);
    return new Map([...this.looks].filter(([name]) => names.includes(name)));
  }

  #whole(prediction) {
    const people = prediction.people ?? [];
    const whole = people.length ? `${people.length} ${people.length > 1 ? "people" : "person"}` : `The whole: ${said(prediction)}`;
    setText(byId("whole"), whole);
    show(byId("people"), people.length > 0);
    byId("people").replaceChildren(el("legend", {}, "Person"), ...people.map((one) => this.#radio(one)));
    show(byId("sentence"), Boolean(prediction.sentence));
    setText(byId("sentence"), prediction.sentence ?? "");
    list(byId("notes"), prediction.notes);
    const facts = Object.entries(prediction.model).filter(([, value]) => value !== null && value !== "");
    byId("facts").replaceChildren(...facts.flatMap(([key, value]) => [
      el("dt", {}, key.replaceAll("_", " ")), el("dd", {}, typeof value === "object" ? JSON.stringify(value) : value)]));
  }

  #radio(one) {
    const input = el("input", { type: "radio", name: "person", value: one.person });
    input.checked = one.person === this.chosen;
    return el("label", {}, input, ` ${named(one.person)}: ${said(one)}`);
  }

  #choose(person) {
    this.chosen = person;
    for (const input of byId("people").querySelectorAll("input")) input.checked = Number(input.value) === person;
    this.timeline.choose(person);
    this.#at(this.player.time);
  }

  #at(time) {
    if (!this.told) return;
    this.timeline.moveTo(time, this.player.playing);
    const one = stretchAt(this.told.get(this.chosen) ?? [], time);
    const segment = one?.segment;
    const values = this.#seriesAt(time);
    const words = values ? said({ values }) : segment ? said(segment) : "";
    setText(byId("now"), `${named(this.chosen, ": ")}${words || "no prediction"}`);
    setText(byId("now-time"), segment ? `at ${clock(time)}, from the window ${clock(segment.start)} to ${clock(segment.end)}` : `at ${clock(time)}`);
    this.bars?.show(values ?? segment?.values ?? segment?.probabilities);
    if (segment !== this.noted) list(byId("now-notes"), segment?.notes ?? []);
    this.noted = segment;
    this.boxes.show([...this.told.keys()].flatMap((person) => this.#box(person, time)));
  }

  #seriesAt(time) {
    if (!this.series) return null;
    const k = Math.max(0, lastAt(this.series.seconds, time, (one) => one));
    return Object.fromEntries(Object.entries(this.series.values).map(([name, line]) => [name, line[k]]));
  }

  #box(person, time) {
    const box = boxAt(this.tracks.get(person) ?? [], time);
    if (!box) return [];
    const segment = stretchAt(this.told.get(person), time)?.segment;
    const colour = this.looks.get(segment?.label)?.colour ?? "#d0d4d8";
    const words = segment && !this.ranges ? said(segment) : "";
    return [{ person, box, colour, text: [person, words].filter(Boolean).join(": "), chosen: person === this.chosen }];
  }

  // All that is said, and the whole video as long as more is awaited.
  #span(segments) {
    const times = [...segments.flatMap((one) => [one.start, one.end]), ...(this.series?.seconds ?? [])];
    return [Math.min(0, ...times.slice(0, 1)), times.reduce((a, b) => Math.max(a, b), this.total)];
  }

  #legend() {
    const labels = new Set([...this.told.values()].flatMap((told) => runs(told).map((run) => run.label)));
    const shown = [...this.looks].filter(([name]) => this.ranges || labels.has(name));
    byId("legend").replaceChildren(...shown.map(([name, look]) => el("li", {}, swatch(look, Boolean(this.ranges)), el("bdi", {}, name))));
  }

  #table({ people, segments }) {
    const heads = ["From", "To", ...(people?.length ? ["Person"] : []), this.ranges ? "Values" : "Label", "Notes"];
    byId("table-head").replaceChildren(...heads.map((head) => el("th", { scope: "col" }, head)));
    const rows = segments.slice(0, MOST_ROWS).map((one) => el("tr", {},
      el("td", {}, el("button", { type: "button", class: "link numbers", "data-time": one.start, "aria-label": visible(`Jump to ${clock(one.start)}`) }, clock(one.start))),
      el("td", { class: "numbers" }, clock(one.end)), ...(people?.length ? [el("td", {}, one.person ?? "nobody")] : []),
      el("td", {}, predicted(one) ? said(one) : "no prediction"), el("td", {}, one.notes.join("; "))));
    const more = segments.length - rows.length;
    if (more > 0) rows.push(el("tr", {}, el("td", { colspan: heads.length }, `and ${more} more: see the CSV`)));
    byId("table-body").replaceChildren(...rows);
  }
}

const named = (person, then = "") => (person ? `person ${person}${then}` : "");

// The people that the timeline has room for: those of whom something is said for the longest time.
function mostShown(told) {
  const seconds = ([, own]) => own.reduce((sum, one) => sum + (predicted(one.segment) ? one.end - one.start : 0), 0);
  const best = [...told].sort((a, b) => seconds(b) - seconds(a)).slice(0, MOST_PEOPLE).map(([person]) => person);
  return [...told.keys()].filter((person) => best.includes(person));
}
