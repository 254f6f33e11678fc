// Camera and microphone: asking for them, and recording a video from them.

import { ApiError } from "./api.js";

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

// Records until `stop()`; `file` resolves to the recording.
export function recording(stream) {
  const recorder = new MediaRecorder(stream);
  const parts = [];
  const file = new Promise((resolve, reject) => {
    recorder.ondataavailable = (event) => parts.push(event.data);
    recorder.onerror = () => reject(new ApiError("The recording was broken off by the browser. Try again.", 0));
    recorder.onstop = () => {
      const type = recorder.mimeType.split(";")[0];
      resolve(new File(parts, `recording.${type.includes("mp4") ? "mp4" : "webm"}`, { type }));
    };
  });
  recorder.start(1000);
  return { stop: () => recorder.state !== "inactive" && recorder.stop(), file };
}
