// Camera and microphone: asking for them, and recording a video from them.

import { ApiError } from "./api.js";
import { byId, clock, setText, show } from "./dom.js";

const PICTURES = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 25 } };
const SOUND = { echoCancellation: false, noiseSuppression: false, autoGainControl: false }; // as recordings in training

// What a model of these modalities needs.
export const needs = ({ modalities }) => ({
  video: modalities.includes("vision") ? PICTURES : false,
  audio: modalities.includes("audio") ? SOUND : false,
});

// A stream of camera and microphone. Throws ApiError that says what to do.
export async function openMedia(model) {
  if (!navigator.mediaDevices) {
    throw new ApiError("Browsers give camera and microphone only to pages from https:// or from this machine itself: "
      + "open http://127.0.0.1 there, or put the server behind https.", 0);
  }
  try {
    return await navigator.mediaDevices.getUserMedia(needs(model));
  } catch (error) {
    throw new ApiError(whatToDo(error.name, asked(model)), 0);
  }
}

const asked = (model) => {
  const { video, audio } = needs(model);
  return [video && "camera", audio && "microphone"].filter(Boolean).join(" and ");
};

function whatToDo(name, what) {
  const rules = {
    NotAllowedError: `This page may not use the ${what}. Allow it at the left of the address bar, or in the system's settings, then try again; or choose a file.`,
    NotFoundError: `The browser finds no ${what}${what.includes(" and ") ? ", or only one of the two" : ""}. Connect what is missing, then try again; or choose a file.`,
    NotReadableError: `The ${what} cannot be opened: another program may be using it. End that, then try again.`,
  };
  return rules[name] ?? `The ${what} cannot be opened (${name}). Choose a file.`;
}

export function closeMedia(stream) {
  for (const one of stream?.getTracks() ?? []) one.stop();
}

// Records until the signal is aborted, and shows it; resolves to the file. `say(text)` is read out.
export async function record(stream, signal, say) {
  const view = byId("camera-view");
  const began = Date.now();
  const timer = setInterval(() => setText(byId("chosen"), `Recording: ${clock((Date.now() - began) / 1000)}`), 200);
  try {
    view.srcObject = stream;
    show(byId("camera"));
    view.play().catch(() => {}); // it is recorded all the same
    const file = recorded(stream, signal);
    setText(byId("record"), "Stop recording");
    say("Recording.");
    return await file;
  } finally {
    clearInterval(timer);
    setText(byId("record"), "Record yourself");
    view.srcObject = null;
    show(byId("camera"), false);
  }
}

function recorded(stream, signal) {
  return new Promise((resolve, reject) => {
    const recorder = recorderOf(stream);
    const parts = [];
    recorder.ondataavailable = (event) => parts.push(event.data);
    recorder.onerror = () => reject(new ApiError("The recording was broken off by the browser. Try again.", 0));
    recorder.onstop = () => {
      const type = recorder.mimeType.split(";")[0];
      resolve(new File(parts, `recording.${type.includes("mp4") ? "mp4" : "webm"}`, { type }));
    };
    signal.addEventListener("abort", () => recorder.state !== "inactive" && recorder.stop());
  });
}

// One that has begun.
function recorderOf(stream) {
  try {
    const recorder = new MediaRecorder(stream);
    recorder.start(1000);
    return recorder;
  } catch (error) {
    throw new ApiError(`This browser cannot record (${error.message}). Choose a file.`, 0);
  }
}
