// The owner's page: how the study stands, personal links, exports. It says nothing about which model people prefer.
"use strict";

const $ = (id) => document.getElementById(id);
const REFRESH_MS = 10000;
const FILES = { csv: "annotations.csv", jsonl: "annotations.jsonl", dataset: "dataset.zip" };
const COLUMNS = ["annotator", "annotations", "checks failed", "first %", "equal %", "median s", "last answer"];

const token = () => location.hash.slice(1);
const annotators = (secret) => new URL(`./#${secret}`, location.origin + location.pathname).href; // also behind a proxy's path
const number = (value, digits = 0) => (value === null ? "–" : value.toFixed(digits));

async function get(path, options = {}) {
  const headers = { Authorization: `Bearer ${token()}`, "Content-Type": "application/json" };
  const response = await fetch(path, { ...options, headers });
  if (!response.ok) {
    const detail = (await response.json()).detail;
    throw new Error(typeof detail === "string" ? detail : `status ${response.status}`);
  }
  return response;
}

function notice(text) {
  $("notice").textContent = text || "";
  $("notice").hidden = !text;
}

function element(name, text, parent) {
  const made = document.createElement(name);
  made.textContent = text;
  parent.append(made);
  return made;
}

function ago(seconds) {
  if (seconds === null) return "–";
  if (seconds < 90) return "just now";
  return seconds < 5400 ? `${Math.round(seconds / 60)} min ago` : `${Math.round(seconds / 3600)} h ago`;
}

function render(study) {
  $("numbers").replaceChildren();
  for (const [value, label] of [
    [`${study.annotations} / ${study.wanted}`, "annotations"],
    [`${study.complete_pairs} / ${study.pairs}`, "pairs complete"],
    [study.open, "open at this moment"],
    [study.last_hour, "answers in the last hour"],
    [`${number(study.median_seconds, 1)} s`, "median time for a pair"],
    [`${number(study.hours_left, 1)} h`, "of work left, for one person, checks included"],
    [number(study.alpha, 2), "Krippendorff's alpha"],
    [number(study.kappa, 2), "Fleiss' kappa, complete pairs"],
    [`${study.checks_failed} / ${study.checks}`, "attention checks failed"],
    [study.undone, "answers taken back"],
  ]) {
    const card = element("article", "", $("numbers"));
    element("b", value, card);
    element("span", label, card);
  }
  $("people").replaceChildren();
  for (const person of study.annotators) {
    const row = element("tr", "", $("people"));
    const name = element("td", `${person.annotator}  `, row);
    element("bdi", person.name, name); // a right-to-left name leaves the number where it is
    element("td", person.annotations, row);
    const checks = element("td", `${person.checks_failed} of ${person.checks}`, row);
    if (!person.attentive) checks.className = "failed";
    element("td", number(person.first_position), row);
    element("td", number(person.equal), row);
    element("td", number(person.median_seconds, 1), row);
    element("td", ago(person.last), row);
  }
  $("models").replaceChildren();
  for (const [model, count] of Object.entries(study.by_model)) {
    const row = element("tr", "", $("models"));
    element("bdi", model, element("td", "", row));
    element("td", count, row);
  }
  if (study.invitation && $("link").hidden) {
    $("link").hidden = false;
    $("link").value = annotators(`join=${study.invitation}`);
  }
}

async function refresh() {
  try {
    render(await (await get("api/admin/progress")).json());
    notice("");
  } catch (error) {
    notice(error.message);
  }
}

async function save(kind) {
  try {
    const content = URL.createObjectURL(await (await get(`api/admin/export/${kind}`)).blob());
    const link = document.createElement("a");
    link.href = content;
    link.download = FILES[kind];
    link.click();
    setTimeout(() => URL.revokeObjectURL(content), 60000);
  } catch (error) {
    notice(error.message);
  }
}

async function add(event) {
  event.preventDefault();
  try {
    const body = JSON.stringify({ name: $("name").value });
    const made = await (await get("api/admin/annotators", { method: "POST", body })).json();
    $("link").value = annotators(`me=${made.token}`);
    $("link").hidden = false;
    $("link").select();
    $("name").value = "";
    refresh();
  } catch (error) {
    notice(error.message);
  }
}

for (const title of COLUMNS) element("th", title, $("columns"));
for (const button of document.querySelectorAll("[data-export]")) {
  button.addEventListener("click", () => save(button.dataset.export));
}
$("add").addEventListener("submit", add);
window.addEventListener("hashchange", refresh);
setInterval(refresh, REFRESH_MS);
refresh();
