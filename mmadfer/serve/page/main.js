// The page: asks the server which model it has, and joins the parts.

import { ApiError, follow, forget, getModel, pause, result as download, upload, useToken } from "./api.js";
import { addPatterns } from "./colours.js";
import { byId, clock, el, setText, show } from "./dom.js";
import { Live } from "./live.js";
import { closeMedia, openMedia, record } from "./media.js";
import { Result } from "./result.js";
import { Timeline } from "./timeline.js";

const page = { model: null, file: null, job: null, abort: null, result: null, live: null, taking: null, retry: null };
const liveTimeline = new Timeline(byId("live-timeline"), { onSeek() {}, onPlay() {}, onPerson() {} });

const say = (text) => setText(byId("status"), text);

// Says what is wrong; `retry` is what the button tries again.
function alarm(error, retry = null) {
  setText(byId("alarm-text"), error.message || String(error));
  page.retry = retry;
  show(byId("again"), Boolean(retry));
  show(byId("alarm"));
  byId("alarm").scrollIntoView({ block: "nearest" });
}

const calm = () => show(byId("alarm"), false);

// --- the token

function askToken(why, signal) {
  const form = byId("token-form");
  show(form);
  setText(byId("token-error"), why);
  byId("token").focus();
  const given = new Promise((resolve, reject) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      useToken(byId("token").value);
      resolve();
    };
    signal?.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")));
  });
  return given.finally(() => {
    byId("token").value = "";
    show(form, false);
  });
}

// What needs a token, asked for as often as the server refuses it.
async function withToken(action, signal) {
  for (let tries = 0; ; tries++) {
    try {
      return await action();
    } catch (error) {
      if (error.status !== 401) throw error;
      await askToken(tries ? "The server has another token." : "", signal);
    }
  }
}

// --- the model

async function start() {
  calm();
  try {
    page.model = await withToken(getModel);
  } catch (error) {
    alarm(error, start);
    return;
  }
  const { model } = page;
  const names = model.output === "values" ? Object.keys(model.values) : model.labels;
  setText(byId("model"), `Model ${model.name}: ${names.join(", ")}`);
  page.result = new Result(model);
  setOptions(model);
  show(byId("parts"));
}

function setOptions(model) {
  show(byId("faces-label"), Boolean(model.faces));
  const cut = model.windows !== false; // else the model takes the windows that it needs
  byId("cut").value = cut ? "windows" : "whole";
  show(byId("cut-label"), cut);
  byId("window").value = model.window ?? 5;
  byId("live-window").value = Math.min(10, model.window ?? 5);
  byId("cut").dispatchEvent(new Event("change"));
  const hears = model.modalities.includes("audio");
  if (!hears) setText(byId("live-what"), "Windows of the camera are predicted while it runs. Nothing is kept. This model needs no sound.");
  if (!model.live) setText(byId("live-what"), `Not live: ${model.live_reason}.`);
  byId("live-go").disabled = !model.live;
  const { bytes, seconds } = model.limits ?? {};
  const most = [bytes && inBytes(bytes), seconds && (seconds < 120 ? clock(seconds) : `${Math.round(seconds / 60)} minutes`)].filter(Boolean).join(" and ");
  if (most) setText(byId("chosen"), `No video chosen. Up to ${most}.`);
}

// --- choosing a video

function inBytes(bytes) {
  const [unit, name] = [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]].find(([one]) => bytes >= one) ?? [1, "bytes"];
  return `${(bytes / unit).toFixed(unit > 1 && bytes < 10 * unit ? 1 : 0)} ${name}`;
}

function choose(file) {
  if (!file) return;
  calm();
  page.file = file;
  setText(byId("chosen"), `${file.name}, ${inBytes(file.size)}`);
  const wrong = refused(file, page.model.limits?.bytes);
  ready();
  if (wrong) alarm(new ApiError(wrong, 413));
  else byId("go").focus();
}

function refused({ name, size }, most) {
  if (!size) return `${name} is empty, or a folder: choose a video file.`;
  if (!most || size <= most) return "";
  return `${name} has ${inBytes(size)}, and this server takes up to ${inBytes(most)}: cut it, or use \`mmadfer predict\`.`;
}

function chooseOne(files) {
  choose(files[0]);
  if (files.length > 1) setText(byId("chosen"), `${files[0].name}: one video at a time; the others are left out.`);
}

function dropping() {
  const drop = byId("drop");
  for (const name of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", name === "dragover");
      if (name === "drop" && !byId("file").matches(":disabled")) chooseOne(event.dataTransfer.files);
    });
  }
  for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());
  byId("file").addEventListener("change", (event) => {
    chooseOne(event.target.files);
    event.target.value = ""; // so that the same file can be chosen again
  });
}

// What can be done now: nothing else while a recording is made.
function ready() {
  const { file, taking } = page;
  byId("file").disabled = Boolean(taking);
  byId("go").disabled = Boolean(taking) || !file || Boolean(refused(file, page.model.limits?.bytes));
}

async function toggleRecording() {
  if (page.taking) {
    page.taking.abort();
    return;
  }
  calm();
  const chosen = byId("chosen").textContent;
  page.taking = new AbortController(); // aborted by its button, or when the tab is left
  const { signal } = page.taking;
  let stream = null;
  let file = null;
  ready();
  try {
    byId("record").disabled = true; // until the browser has asked
    stream = await openMedia(page.model).finally(() => { byId("record").disabled = false; });
    if (!signal.aborted) file = await record(stream, signal, say);
  } catch (error) {
    if (stream || !signal.aborted) alarm(error);
  } finally {
    closeMedia(stream);
    setText(byId("chosen"), chosen);
    page.taking = null;
    ready();
  }
  if (!file) return;
  say("Recorded.");
  choose(file);
}

// --- predicting it

function asked() {
  const form = new FormData();
  if (byId("cut").value === "windows") {
    form.append("window", byId("window").value);
    form.append("hop", byId("hop").value);
  }
  if (page.model.faces) form.append("faces", byId("faces").value);
  form.append("video", page.file, page.file.name);
  return form;
}

const AGAIN = new Set([0, 404, 429, 503]); // no answer, forgotten, no room, stopping: it may work later

async function predict() {
  calm();
  if (page.job) forget(page.job);
  page.job = null;
  page.abort = new AbortController();
  busy(true);
  page.result.begin(page.file);
  try {
    page.job = await send();
    const whole = await follow(page.job, heard, page.abort.signal);
    ended(whole);
  } catch (error) {
    page.result.clear();
    if (error.name === "AbortError") say("Cancelled.");
    else alarm(error, AGAIN.has(error.status) ? predict : null);
  } finally {
    busy(false);
  }
}

// Sends the video, as often as the server says that it has no room yet; returns the job's id.
async function send() {
  const { signal } = page.abort;
  for (;;) {
    progress(0, "Sending the video …");
    try {
      const sent = (share) => progress(share, share === 1 ? "Sent; the server begins." : `Sending the video: ${(100 * (share ?? 0)).toFixed(0)}%`);
      return (await withToken(() => upload(asked(), sent, signal), signal)).id;
    } catch (error) {
      if (error.status !== 429) throw error.status === 0 ? await unreadable(error) : error;
      await waitForRoom(error, signal);
    }
  }
}

// A file that was changed or taken away since it was chosen looks like a server that does not answer.
async function unreadable(error) {
  try {
    await page.file.slice(0, 1).arrayBuffer();
    return error;
  } catch {
    return new ApiError(`${page.file.name} cannot be read any more: choose it again.`, 400);
  }
}

async function waitForRoom({ message, retryAfter }, signal) {
  say(`${message} Trying again in ${Math.ceil(retryAfter ?? 5)} seconds.`);
  for (let left = Math.ceil(retryAfter ?? 5); left > 0; left--) {
    progress(null, `${message} Trying again in ${left} s.`);
    await pause(1000, signal);
  }
}

function heard(name, told) {
  if (name === "segment") page.result.add(told);
  else if (name === "lost") {
    page.result.restart();
    progress(null, "The connection was lost; trying again …");
  }
  else {
    page.result.total = told.seconds ?? 0;
    progress(told.state === "waiting" ? null : told.progress, inWords(told));
  }
}

function inWords({ state, waits_behind: behind, seconds_done: done, seconds, seconds_left: left }) {
  if (state === "waiting") return behind ? `Waiting: ${behind} before this one.` : "Waiting for the server.";
  const of = seconds ? `${clock(done ?? 0)} of ${clock(seconds)}` : clock(done ?? 0);
  return `${of} predicted${left === null || left === undefined ? "" : `, about ${clock(Math.max(1, Math.round(left))).replace(".0", "")} left`}`;
}

function ended(whole) {
  if (whole.state === "cancelled") {
    say("Cancelled.");
    page.result.clear();
  } else if (whole.state === "failed") {
    page.result.clear();
    alarm(new ApiError(advised(whole), 422));
  } else {
    page.result.finish(whole);
    say(`Finished. ${page.result.summary}`);
    byId("result-title").focus();
  }
}

// The server's words, and what to do where nobody is seen.
function advised({ error, name }) {
  const said = error ?? "The video could not be predicted.";
  if (!/no face|neither face/.test(said.replaceAll(name, ""))) return said;
  return `${said}. A face must be seen: try another part of the video or longer windows, more light, or a larger face.`;
}

function busy(on) {
  byId("source").disabled = on;
  show(byId("progress-card"), on);
  if (on) byId("cancel").focus();
  else if (document.activeElement === document.body) byId("go").focus();
}

let quarter = -1; // of the work that was read out last
function progress(share, text) {
  const bar = byId("progress");
  if (share === null || share === undefined) bar.removeAttribute("value");
  else bar.value = share;
  setText(byId("progress-text"), text);
  const reached = Math.floor(4 * (share ?? 0));
  if (reached !== quarter) say(text);
  quarter = reached;
}

function cancel() {
  if (page.job) forget(page.job);
  page.job = null;
  page.abort?.abort();
}

async function save(kind) {
  calm();
  try {
    const url = URL.createObjectURL(await download(page.job, kind));
    el("a", { href: url, download: `prediction.${kind}` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  } catch (error) {
    alarm(error);
  }
}

// --- live

function toggleLive() {
  if (page.live) {
    page.live.stop();
    return;
  }
  if (!["live-window", "live-hop"].every((id) => byId(id).reportValidity())) return;
  calm();
  setText(byId("live-go"), "Stop");
  page.live = new Live(page.model, liveTimeline, { say, onEnd: liveEnded });
  page.live.start(Number(byId("live-window").value), Number(byId("live-hop").value));
}

function liveEnded(error) {
  page.live = null;
  setText(byId("live-go"), "Start the camera");
  say("Live has ended.");
  if (error) alarm(error);
}

// --- tabs

function choosePanel(name) {
  for (const one of ["file", "live"]) {
    const tab = byId(`tab-${one}`);
    tab.setAttribute("aria-selected", one === name);
    tab.tabIndex = one === name ? 0 : -1;
    show(byId(`panel-${one}`), one === name);
  }
  if (name === "file") page.live?.stop();
  else byId("video").pause();
  page.taking?.abort();
  calm();
}

function tabs() {
  for (const name of ["file", "live"]) {
    byId(`tab-${name}`).addEventListener("click", () => choosePanel(name));
  }
  byId("modes").addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const other = event.target.id === "tab-file" ? "live" : "file";
    choosePanel(other);
    byId(`tab-${other}`).focus();
  });
}

addPatterns();
dropping();
tabs();
byId("record").addEventListener("click", toggleRecording);
byId("cancel").addEventListener("click", cancel);
byId("live-go").addEventListener("click", toggleLive);
byId("again").addEventListener("click", () => page.retry?.());
byId("upload").addEventListener("submit", (event) => {
  event.preventDefault();
  predict();
});
byId("cut").addEventListener("change", () => {
  for (const label of document.querySelectorAll(".windowed")) {
    show(label, byId("cut").value === "windows");
    label.querySelector("input").disabled = byId("cut").value !== "windows"; // what is hidden is not checked
  }
});
byId("downloads").addEventListener("click", ({ target }) => target.dataset.kind && save(target.dataset.kind));
window.addEventListener("pagehide", () => { // nobody is there any more to see it; the browser may keep the page for its Back button
  cancel();
  show(byId("downloads"), false);
  page.live?.stop();
  page.taking?.abort();
});
start();
