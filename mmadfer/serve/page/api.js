// What the server offers. Errors are `ApiError`s with the server's own words.

const KEPT = "mmadfer.token";
let token = sessionStorage.getItem(KEPT);

export class ApiError extends Error {
  constructor(message, status, retryAfter = null) {
    super(message);
    this.status = status; // 0: no answer
    this.retryAfter = retryAfter; // seconds
  }
}

export const GONE = "The server does not answer. Is `mmadfer serve` still running, and this machine online?";

export function useToken(given) {
  token = given;
  sessionStorage.setItem(KEPT, given);
}

export const currentToken = () => token;

const headers = (more = {}) => (token ? { ...more, Authorization: `Bearer ${token}` } : more);

function failure(status, body, after) {
  let said = `The server answered ${status}.`;
  try {
    const { error } = JSON.parse(body);
    if (error) said = typeof error === "string" ? error : JSON.stringify(error);
  } catch { /* not the server's own words */ }
  const seconds = Number.parseFloat(after);
  return new ApiError(said, status, Number.isFinite(seconds) ? seconds : null);
}

async function call(url, options = {}) {
  let response;
  try {
    response = await fetch(url, { ...options, headers: headers(options.headers), cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(GONE, 0);
  }
  if (!response.ok) throw failure(response.status, await response.text(), response.headers.get("Retry-After"));
  return response;
}

export const getModel = async () => (await call("model")).json();

// Sends a video; `onProgress` is told the share that has been sent. fetch cannot tell that, XMLHttpRequest can.
// The server may have made a job of what is whole: if that is cancelled, its answer is awaited all the same, to forget the job.
export function upload(form, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "predict");
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => onProgress(event.lengthComputable ? event.loaded / event.total : null);
    request.onload = () => {
      const queued = request.status === 202 ? JSON.parse(request.responseText) : null;
      if (queued && signal.aborted) forget(queued.id);
      else if (queued) resolve(queued);
      else reject(failure(request.status, request.responseText, request.getResponseHeader("Retry-After")));
    };
    request.onerror = () => reject(new ApiError(GONE, 0));
    let whole = false;
    request.upload.onload = () => { whole = true; };
    signal.addEventListener("abort", () => {
      reject(new DOMException("cancelled", "AbortError"));
      if (!whole) request.abort();
    });
    request.send(form);
  });
}

const jobUrl = (id) => `jobs/${encodeURIComponent(id)}`;

// Ends a job or forgets it; also while the page is being closed.
export function forget(id) {
  return fetch(jobUrl(id), { method: "DELETE", headers: headers(), keepalive: true }).catch(() => {});
}

export async function result(id, kind) {
  return (await call(`${jobUrl(id)}/result.${kind}`)).blob();
}

async function* events(id, signal) {
  const response = await call(jobUrl(id), { headers: { Accept: "text/event-stream" }, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = parsed(block);
      if (event) yield event;
    }
  }
}

function parsed(block) {
  let name = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).trim());
  }
  return data.length ? { name, data: JSON.parse(data.join("\n")) } : null;
}

const LAST = new Set(["done", "failed", "cancelled"]);
const PAUSES = [500, 1000, 2000, 4000, 8000]; // milliseconds between attempts to reach the server again

// Follows a job to its end and returns the whole; `onEvent` is told what comes before. A broken connection is made anew.
export async function follow(id, onEvent, signal) {
  let lost = 0;
  for (;;) {
    try {
      for await (const { name, data } of events(id, signal)) {
        lost = 0;
        if (LAST.has(name)) return data;
        onEvent(name, data);
      }
      lost += 1;
    } catch (error) {
      if (signal.aborted || error.status > 0) throw error;
      lost += 1;
    }
    if (lost > PAUSES.length) throw new ApiError(GONE, 0);
    onEvent("lost", null);
    await pause(PAUSES[lost - 1], signal);
  }
}

export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("cancelled", "AbortError"));
    });
  });
}
