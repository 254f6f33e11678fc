// Collects the microphone's sound, mixed to one channel, and hands it over in pieces, each with its end on the audio's
// own clock.

const PIECE = 2048; // samples

class Sound extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Float32Array(PIECE);
    this.count = 0;
  }

  process([channels]) {
    const length = channels[0]?.length ?? 0;
    for (let k = 0; k < length; k++) {
      let sum = 0;
      for (const channel of channels) sum += channel[k];
      this.piece[this.count++] = sum / channels.length;
      if (this.count === PIECE) this.#hand(currentTime + (k + 1) / sampleRate);
    }
    return true;
  }

  #hand(end) {
    this.port.postMessage({ samples: this.piece, end }, [this.piece.buffer]);
    this.piece = new Float32Array(PIECE);
    this.count = 0;
  }
}

registerProcessor("sound", Sound);
