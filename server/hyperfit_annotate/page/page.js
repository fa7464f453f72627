// The annotator's page. One pair at a time; every choice is sent at once and shown as saved only when the server has it.
"use strict";

const $ = (id) => document.getElementById(id);
const SETTLE_MS = 400; // a key still held from the pair before is no choice for this one
const RETRY_MS = [1000, 2000, 5000, 10000];
const BUSY = [408, 429]; // timeout, too many requests
const LOOK_AGAIN_MS = 20000;
const KEYS = { 1: "first", ArrowLeft: "first", 2: "second", ArrowRight: "second", 0: "equal", ArrowDown: "equal" };

let token = ""; // of the personal link, behind its #, so that no log has it
let invitation = "";
let pair = null; // on the screen
let last = null; // number of the newest answer, which undo takes back
let failed = null; // the call to try again
let busy = false; // a call is under way
let paused = false;
let shownAt = 0;
let activeMs = 0; // time with the pair, pauses and other tabs left out
let since = null;
let timer = null;

function show(...ids) {
  for (const id of ["welcome", "work", "message"]) $(id).hidden = !ids.includes(id);
}

function notice(text) {
  $("notice").textContent = text || "";
  $("notice").hidden = !text;
}

function clock() {
  const now = performance.now();
  if (since !== null) activeMs += now - since;
  since = pair && !paused && !document.hidden && !$("work").hidden ? now : null;
}

// Sends until the server answers. What does not come from it, such as a proxy's error page, is no answer.
async function post(path, body, bearer = token) {
  const headers = { "Content-Type": "application/json", Authorization: `Bearer ${bearer}` };
  for (let attempt = 0; ; attempt++) {
    let response = null;
    try {
      response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body || {}) });
    } catch (error) {
      // The server is away. What was chosen waits here; sending it twice counts once.
    }
    const answer = response && (await response.json().catch(() => null));
    if (answer && response.ok) {
      notice("");
      return answer;
    }
    if (answer && response.status < 500 && !BUSY.includes(response.status)) {
      throw new Error(typeof answer.detail === "string" ? answer.detail : "the server did not understand this");
    }
    notice("Not saved yet: the server does not answer. Trying again; keep this page open.");
    await new Promise((done) => setTimeout(done, RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)]));
  }
}

// Calls run one at a time, and buttons are off meanwhile.
async function call(path, body) {
  if (busy) return;
  busy = true;
  clearTimeout(timer);
  disable(true);
  try {
    render(await post(path, body));
  } catch (error) {
    failed = () => call(path, body);
    message("This did not work", `${error.message[0].toUpperCase()}${error.message.slice(1)}.`, "again");
  } finally {
    busy = false;
    disable(false);
  }
}

function disable(off) {
  const buttons = document.querySelectorAll(".choices button, #undo, #pause, #help, #again");
  for (const button of buttons) button.disabled = off;
}

function render(work) {
  notice(work.notice);
  $("progress").hidden = false;
  $("bar").max = Math.max(work.done + work.left, 1);
  $("bar").value = work.done;
  $("count").textContent = `${work.done} done, ${work.left} to go`;
  last = work.last;
  $("undo").hidden = last === null;
  $("help").hidden = false;
  $("pause").hidden = work.state !== "pair";
  for (const button of document.querySelectorAll(".chosen")) button.classList.remove("chosen");
  if (work.state !== "pair") {
    pair = null;
    if (work.state === "waiting") {
      message("Nothing for you right now", "The last pairs are with others. This page looks again by itself.");
      timer = setTimeout(() => call("api/next"), LOOK_AGAIN_MS);
    } else {
      message("All done", "There is no pair left that you have not judged. Thank you!");
    }
    return;
  }
  const again = pair && pair.id === work.pair.id;
  pair = work.pair;
  // textContent throughout: a continuation may hold HTML, and here it is only text.
  for (const part of ["context", "first", "second"]) $(part).textContent = pair[part];
  show("work");
  if (!again) {
    activeMs = 0;
    since = null;
    shownAt = performance.now();
    window.scrollTo(0, 0);
  }
  clock();
}

function message(title, text, button = "") {
  clock();
  $("message-title").textContent = title;
  $("message-text").textContent = text;
  for (const id of ["resume", "again"]) $(id).hidden = id !== button;
  show("message");
  clock();
}

function choose(choice) {
  if (!pair || busy || paused || $("work").hidden || performance.now() - shownAt < SETTLE_MS) return;
  clock();
  document.querySelector(`[data-choice="${choice}"]`).classList.add("chosen");
  call("api/answer", { pair: pair.id, choice, seconds: activeMs / 1000 });
}

function undo() {
  if (!busy && !paused && token && !$("undo").hidden && $("welcome").hidden) call("api/undo", { answer: last });
}

function pause() {
  if (!pair || busy) return;
  paused = true;
  $("pause").hidden = true;
  message("Paused", "Your answers are saved. You may also close this page and come back with your link.", "resume");
}

function resume() {
  paused = false;
  call("api/next"); // asks again: after a long pause the pair may have gone back to the others
}

function help() {
  clock();
  $("join").hidden = true;
  $("account").hidden = false;
  $("link").value = location.href;
  show("welcome");
  clock();
}

function start() {
  pair = null;
  paused = false;
  const hash = new URLSearchParams(location.hash.slice(1));
  token = hash.get("me") || "";
  invitation = hash.get("join") || "";
  notice("");
  if (token) {
    call("api/next");
  } else {
    $("join").hidden = false;
    $("account").hidden = true;
    show("welcome");
  }
}

function secret() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function join(event) {
  event.preventDefault();
  if (busy) return;
  busy = true;
  try {
    token = (await post("api/join", { name: $("name").value, token: secret() }, invitation)).token;
    history.replaceState(null, "", `#me=${token}`);
    help();
  } catch (error) {
    notice(`${error.message[0].toUpperCase()}${error.message.slice(1)}.`);
  } finally {
    busy = false;
  }
}

async function copy() {
  $("link").select();
  try {
    await navigator.clipboard.writeText($("link").value);
    $("copy").textContent = "Copied";
  } catch (error) {
    $("copy").textContent = "Press Ctrl+C"; // browsers give the clipboard to secure pages only
  }
}

for (const button of document.querySelectorAll("[data-choice]")) {
  button.addEventListener("click", () => choose(button.dataset.choice));
}
$("undo").addEventListener("click", undo);
$("pause").addEventListener("click", pause);
$("resume").addEventListener("click", resume);
$("again").addEventListener("click", () => failed());
$("help").addEventListener("click", help);
$("go").addEventListener("click", () => call("api/next"));
$("copy").addEventListener("click", copy);
$("join").addEventListener("submit", join);
document.addEventListener("visibilitychange", clock);
window.addEventListener("hashchange", start);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.tagName === "INPUT") return;
  if (event.key in KEYS && !$("work").hidden) choose(KEYS[event.key]);
  else if (event.key === "Backspace") undo();
  else if (event.key.toLowerCase() === "p" && !$("work").hidden) pause();
  else return;
  event.preventDefault();
});
start();
