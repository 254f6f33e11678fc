// The user's own video, played from their file, or a clock in its place where the browser cannot play it.

import { show } from "./dom.js";

export class Player {
  // `onTime(seconds)` is called for each picture that is shown, and after each jump.
  constructor({ video, stage, message }, onTime) {
    Object.assign(this, { video, stage, message, onTime, time: 0, playable: false, source: null });
    video.addEventListener("error", () => this.source && this.#cannot());
    video.addEventListener("loadedmetadata", () => this.#loaded());
    for (const name of ["seeked", "timeupdate", "pause"]) {
      video.addEventListener(name, () => this.playable && this.#shown(video.currentTime));
    }
    this.#watch();
  }

  open(file) {
    this.close();
    this.source = URL.createObjectURL(file);
    this.time = 0;
    show(this.message, false);
    show(this.video, true);
    this.stage.style.maxWidth = "";
    this.video.src = this.source;
  }

  close() {
    if (this.source) URL.revokeObjectURL(this.source);
    this.source = null;
    this.playable = false;
    this.video.removeAttribute("src");
    this.video.load();
  }

  seek(time) {
    if (this.playable) this.video.currentTime = time;
    this.#shown(time);
  }

  get playing() {
    return this.playable && !this.video.paused;
  }

  toggle() {
    if (!this.playable) return;
    if (this.video.paused) this.video.play().catch(() => {});
    else this.video.pause();
  }

  #loaded() {
    const { videoWidth: width, videoHeight: height } = this.video;
    this.playable = true;
    show(this.message, !width); // sound alone, or pictures that it cannot decode
    if (width) this.stage.style.maxWidth = `calc(70vh * ${width / height})`;
    if (this.video.duration === Infinity) this.#measure();
  }

  // A recording does not say how long it is until it has been at its end.
  #measure() {
    const { video } = this;
    this.playable = false;
    video.addEventListener("durationchange", () => {
      this.playable = true;
      video.currentTime = 0;
    }, { once: true });
    video.currentTime = 1e9;
  }

  #cannot() {
    this.playable = false;
    show(this.video, false);
    show(this.message, true);
  }

  #shown(time) {
    this.time = time;
    this.onTime(time);
  }

  #watch() {
    const { video } = this;
    if (!video.requestVideoFrameCallback) return; // `timeupdate` is told four times a second
    const next = (_, { mediaTime }) => {
      if (this.playing && !video.seeking) this.#shown(mediaTime); // else it may be a picture from before a jump
      video.requestVideoFrameCallback(next);
    };
    video.requestVideoFrameCallback(next);
  }
}
