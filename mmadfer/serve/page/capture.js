// Pictures and pieces of sound of a stream as messages, in order of time, on the page's clock.

const LONGEST = 640; // of a picture's sides, in pixels: the server takes no more
const EVERY = 100; // milliseconds between pictures
const DRIFT = 0.05; // seconds by which the audio's clock may be off before it is set anew
const LOOKED_AT = 100; // pieces of sound that tell how far it is off
const PATIENCE = 0.5; // seconds that a picture waits for the sound before it
const PICTURE = 1;
const SOUND = 2;

export const now = () => performance.now() / 1000;

export class Capture {
  // `onMessage(bytes, isPicture)` is called in order of time.
  constructor(stream, view, onMessage) {
    Object.assign(this, { stream, view, onMessage, waiting: [], late: [], offset: null, heard: null, drawing: null, canvas: document.createElement("canvas") });
    this.hears = stream.getAudioTracks().length > 0;
  }

  // Rate of the sound in Hz, or null.
  async open() {
    if (!this.hears) return null;
    this.context = new AudioContext();
    await this.context.audioWorklet.addModule(new URL("sound-worklet.js", import.meta.url));
    this.node = new AudioWorkletNode(this.context, "sound", { numberOfOutputs: 0 });
    this.node.port.onmessage = ({ data }) => this.#sound(data);
    this.context.createMediaStreamSource(this.stream).connect(this.node);
    return this.context.sampleRate;
  }

  start() {
    this.started = true;
    this.timer = setInterval(() => this.#picture(), EVERY);
  }

  async close() {
    clearInterval(this.timer);
    this.closed = true;
    if (this.node) this.node.port.onmessage = null;
    await this.context?.close();
  }

  // Pieces come late, and in bursts after the page was busy, but never early: the least late one tells the clocks' offset.
  #sound({ samples, end }) {
    this.late.push(now() - end);
    if (this.late.length > LOOKED_AT) this.late.shift();
    const offset = Math.min(...this.late);
    if (this.offset === null || Math.abs(offset - this.offset) > DRIFT) this.offset = offset;
    this.heard = end + this.offset; // the next piece begins there
    if (this.started) this.#hand(SOUND, this.heard - samples.length / this.context.sampleRate, samples);
  }

  async #picture() {
    const { videoWidth: width, videoHeight: height } = this.view;
    if (!width || this.drawing !== null) return;
    const time = now();
    this.drawing = time;
    const scale = Math.min(1, LONGEST / Math.max(width, height));
    this.canvas.width = Math.floor(width * scale);
    this.canvas.height = Math.floor(height * scale);
    this.canvas.getContext("2d").drawImage(this.view, 0, 0, this.canvas.width, this.canvas.height);
    const blob = await new Promise((resolve) => this.canvas.toBlob(resolve, "image/jpeg", 0.85));
    this.drawing = null;
    if (blob) this.#hand(PICTURE, time, await blob.arrayBuffer());
  }

  // Items wait until nothing earlier can come: sound is told a piece later than the pictures of its time.
  #hand(kind, time, payload) {
    if (this.closed) return;
    this.waiting.push({ kind, time, payload });
    this.waiting.sort((a, b) => a.time - b.time);
    const sound = this.hears ? this.heard ?? -Infinity : Infinity;
    const settled = Math.max(Math.min(sound, this.drawing ?? Infinity), now() - PATIENCE);
    while (this.waiting.length && this.waiting[0].time <= settled) this.#send(this.waiting.shift());
  }

  #send({ kind, time, payload }) {
    if (time < (this.sent ?? -Infinity)) return; // too late to be in order
    this.sent = time;
    const data = payload instanceof ArrayBuffer ? new Uint8Array(payload) : new Uint8Array(payload.buffer);
    const message = new Uint8Array(9 + data.length);
    message[0] = kind;
    new DataView(message.buffer).setFloat64(1, time, true);
    message.set(data, 9);
    this.onMessage(message, kind === PICTURE);
  }
}
