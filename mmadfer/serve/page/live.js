// Live: camera and microphone are sent while they run, and what comes back is shown with its delay.

import { ApiError, GONE, currentToken } from "./api.js";
import { Bars } from "./bars.js";
import { Boxes } from "./boxes.js";
import { Capture, now } from "./capture.js";
import { looks } from "./colours.js";
import { byId, list, setText, show } from "./dom.js";
import { closeMedia, openMedia } from "./media.js";
import { said, stretches } from "./stretches.js";

const MOST_WAITING = { picture: 256 * 1024, sound: 4 * 1024 * 1024 }; // bytes that the network has not taken yet
const SAY_AGAIN = 3000; // milliseconds between two labels that are read out
const SHOWN = 60; // seconds of the past on the timeline
const STALE = 3; // windows without an answer, after which a box is no longer drawn

export class Live {
  // `timeline` is drawn on; `say(text)` is read out; `onEnd(error or null)` is called once, when it is over.
  constructor(model, timeline, { say, onEnd }) {
    Object.assign(this, { model, timeline, say, onEnd, count: 0, saidAt: 0, past: [] });
    this.ranges = model.output === "values" ? model.values : null;
    this.looks = looks(this.ranges ? Object.keys(model.values) : model.labels);
    this.bars = new Bars(byId("live-bars"), this.looks, this.ranges);
    this.boxes = new Boxes(byId("live-boxes"));
    this.view = byId("live-view");
  }

  async start(window, hop) {
    this.hop = hop;
    try {
      this.stream = await openMedia(this.model);
      if (this.over) return closeMedia(this.stream);
      this.view.srcObject = this.stream;
      await this.view.play();
      for (const track of this.stream.getTracks()) track.onended = () => this.stop(new ApiError("The camera or microphone was taken away.", 0));
      this.capture = new Capture(this.stream, this.view, (message, isPicture) => this.#send(message, isPicture));
      const rate = await this.capture.open();
      if (this.over) return undefined;
      this.#connect(window, hop, rate);
      this.#reset();
    } catch (error) {
      this.stop(error);
    }
    return undefined;
  }

  // Ends everything; with an error, says it.
  stop(error = null) {
    if (this.over) return;
    this.over = true;
    clearTimeout(this.stale);
    this.capture?.close();
    this.socket?.close();
    closeMedia(this.stream);
    this.view.srcObject = null;
    this.boxes.show([]);
    setText(byId("live-title"), "Live, ended");
    this.onEnd(error);
  }

  #reset() {
    show(byId("live"));
    setText(byId("live-title"), "Live");
    setText(byId("live-label"), "The first window is being filled …");
    for (const id of ["live-delay", "live-left-out"]) setText(byId(id), "–");
    setText(byId("live-count"), "0");
    list(byId("live-notes"), []);
    this.timeline.clear();
  }

  #connect(window, hop, rate) {
    const url = new URL("live", document.baseURI);
    url.protocol = url.protocol.replace("http", "ws");
    url.search = new URLSearchParams({ window, hop });
    this.socket = new WebSocket(url, "mmadfer.live.1");
    this.socket.onopen = () => this.socket.send(JSON.stringify({ token: currentToken(), rate, cropped: false }));
    this.socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    this.socket.onclose = ({ code }) => this.stop(new ApiError(CLOSED[code] ?? GONE, 0));
  }

  #send(message, isPicture) {
    const room = isPicture ? MOST_WAITING.picture : MOST_WAITING.sound;
    if (this.socket.readyState === WebSocket.OPEN && this.socket.bufferedAmount < room) this.socket.send(message);
  }

  #take(told) {
    if (this.over) return;
    if (told.error) this.stop(new ApiError(told.error, 0));
    else if (told.ready) this.capture.start();
    else if (told.prediction) this.#show(told);
  }

  #show({ prediction, at, left_out: leftOut, boxes }) {
    this.count += 1;
    const words = said(prediction) || "no prediction";
    setText(byId("live-label"), words);
    this.bars.show(prediction.values ?? prediction.probabilities);
    setText(byId("live-delay"), `${Math.max(0, now() - at).toFixed(2)} s`);
    setText(byId("live-count"), this.count);
    setText(byId("live-left-out"), leftOut);
    list(byId("live-notes"), prediction.notes);
    this.#box(prediction, boxes ?? [], words);
    this.#draw(prediction.segments);
    this.#sayNew(prediction.label ?? words);
  }

  // The last minute; its times begin with the first window.
  #draw(segments) {
    this.begin ??= segments[0].start;
    this.past.push(...segments.map((one) => ({ ...one, start: one.start - this.begin, end: one.end - this.begin })));
    const end = this.past.at(-1).end;
    this.past = this.past.filter((one) => one.end > end - SHOWN);
    const span = [Math.max(0, end - SHOWN), end];
    const told = stretches(this.past).map((one) => ({ ...one, start: Math.max(span[0], one.start) }));
    this.timeline.set([{ person: null, name: "", told }], span, this.looks, this.ranges, null);
    this.timeline.moveTo(end);
  }

  // Where the face was last; a window later it may have moved.
  #box(prediction, found, words) {
    const colour = this.looks.get(prediction.label)?.colour ?? "#d0d4d8";
    const last = found.filter((one) => one.boxes.length).map((one) => one.boxes.at(-1));
    this.boxes.show(last.slice(0, 1).map((box) => ({ person: null, box, colour, text: prediction.label ? words : "" })));
    clearTimeout(this.stale);
    this.stale = setTimeout(() => this.boxes.show([]), 1000 * STALE * this.hop);
  }

  #sayNew(words) {
    if (words === this.lastSaid || Date.now() - this.saidAt < SAY_AGAIN) return;
    Object.assign(this, { lastSaid: words, saidAt: Date.now() });
    this.say(words);
  }
}

const CLOSED = {
  1001: "The server is stopping.",
  1012: "The server is stopping.",
  1013: "The server has as many live sources as it takes. Try again in a while.",
};
