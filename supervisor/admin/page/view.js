// Shows what /status.json and /history.json say. Text goes in as text, never as markup: some of it peers have chosen.

import { chart, draw } from "./chart.js";
import { LIMITED, RECENT_S, notices } from "./notices.js";
import { REASONS } from "./reasons.js";
import { ago, bytes, count, duration } from "./words.js";

const HIGH = 0.8;

const at = (id) => document.getElementById(id);

/** A new element with text or elements in it. */
function make(tag, className, ...content) {
  const element = document.createElement(tag);
  element.className = className;
  element.append(...content);
  return element;
}

// --- tiles ---

const TILES = [
  ["reservations", "Reservations"], ["circuits", "Circuits"], ["connections", "Connections"],
  ["refusals", "Refused"], ["memory_bytes", "Memory"],
];
const tiles = new Map();

function makeTiles() {
  for (const [name, title] of TILES) {
    const now = make("span", "now"), of = make("span", "of"), fill = make("div", "");
    const meter = make("div", name in LIMITED ? "meter" : "space", fill), picture = chart(), peak = make("p", "soft");
    if (name in LIMITED) {
      meter.setAttribute("role", "meter");
      meter.setAttribute("aria-label", title);
    }
    const tile = make("div", "tile", make("h3", "", title), make("p", "", now, " ", of), meter, picture, peak);
    tile.id = `tile-${name}`;
    at("tiles").append(tile);
    tiles.set(name, { title, now, of, meter, fill, picture, peak });
  }
}

function showTile(name, now, of) {
  const tile = tiles.get(name);
  tile.now.textContent = now;
  tile.of.textContent = of;
}

function showMeter(name, held, most) {
  const { meter, fill } = tiles.get(name);
  meter.setAttribute("aria-valuenow", held);
  meter.setAttribute("aria-valuemax", most);
  meter.className = `meter ${held >= most ? "full" : held >= HIGH * most ? "high" : ""}`;
  fill.style.width = `${Math.min(100, 100 * held / most)}%`;
}

// --- tables ---

const HOLDS = new Set(["listener", "registry"]); // the registry's are the totals that it grants by

function cell(column, text, className = "") {
  const element = make("td", className, text);
  element.setAttribute("role", "cell");
  element.dataset.column = column;
  return element;
}

function row(name, ...cells) {
  const head = make("th", "", ...name), element = make("tr", "", head, ...cells);
  head.scope = "row";
  head.setAttribute("role", "rowheader");
  element.setAttribute("role", "row");
  return element;
}

function processRow(process) {
  const { state, restarts, last_end: end } = process;
  const good = state === "ready", recent = end && end.how !== "in order" && end.ago_s < RECENT_S;
  const ended = end ? `${count(restarts)}: ${end.how}, ${duration(end.ago_s)} ago` : count(restarts);
  const held = HOLDS.has(process.role) ? (column, value) => cell(column, count(value), "number") : (column) => cell(column, "–", "number never");
  const element = row(
    [make("span", "mono", process.name)],
    cell("State", state, good ? "good" : state === "failed" ? "bad" : "warn"),
    cell("Runs for", process.pid ? duration(process.uptime_s) : "–"),
    cell("Restarts", ended, recent ? "warn wide" : end ? "wide" : ""),
    held("Connections", process.connections),
    held("Reservations", process.reservations),
    held("Circuits", process.circuits),
    cell("Memory", bytes(process.memory_bytes), "number"),
  );
  element.dataset.process = process.name;
  return element;
}

function showRefusals(totals, recent) {
  const reasons = Object.keys(totals).filter((reason) => totals[reason]);
  const weight = (reason) => [recent[reason]?.hour ?? 0, totals[reason]];
  reasons.sort((one, other) => weight(other)[0] - weight(one)[0] || weight(other)[1] - weight(one)[1]);
  at("refusals").tBodies[0].replaceChildren(...reasons.map((reason) => {
    const element = row(
      [make("span", "mono", reason), make("div", "soft", REASONS[reason] ?? "")],
      cell("Last minute", count(recent[reason]?.minute ?? 0), "number"),
      cell("Last hour", count(recent[reason]?.hour ?? 0), "number"),
      cell("In all", count(totals[reason]), "number"),
    );
    element.dataset.reason = reason;
    return element;
  }));
  at("refusals").hidden = !reasons.length;
  at("no-refusals").hidden = reasons.length > 0;
}

// --- who it is ---

function identity(status) {
  const { certificates, canary } = status;
  const entries = [
    ["Peer ID", [status.peer_id]],
    ["Announced", status.addresses],
    ["Certificates", certificates.map((each) => `${each.listener}: ${each.days_left} days left`)],
    ["Seen from outside", canary ? [canaryText(canary)] : []],
  ];
  return entries.filter(([, values]) => values.length).flatMap(([name, values]) => [
    make("dt", "", name),
    make("dd", "", ...values.map((value) => make("div", "mono", value))),
  ]);
}

function canaryText({ address, ok, last_run_unix_s: last, runs, failures }) {
  if (ok === null) return `${address}: not looked at yet`;
  return `${address}: ${ok ? "well" : "fails"}, ${ago(last)}; ${count(failures)} of ${count(runs)} looks failed`;
}

// --- all of it ---

/** Show /status.json, and /history.json as it was some seconds ago. */
export function show(status, history) {
  if (!tiles.size) makeTiles();
  at("about").textContent = `${status.version}, up ${duration(status.uptime_s)}`;
  for (const [name, limit] of Object.entries(LIMITED)) {
    showTile(name, count(status[name]), `of ${count(status.limits[limit])}`);
    showMeter(name, status[name], status.limits[limit]);
  }
  const recent = history.refusals;
  const minute = Object.values(recent).reduce((sum, each) => sum + each.minute, 0);
  showTile("refusals", count(minute), "per minute");
  showTile("memory_bytes", bytes(status.memory_bytes), "");
  showHistory(history, status);
  showRefusals(status.refusals, recent);
  at("processes").tBodies[0].replaceChildren(...status.workers.map(processRow));
  at("notices").replaceChildren(...notices(status).map(([text, bad]) => make("li", bad ? "bad" : "warn", text)));
  at("identity").replaceChildren(...identity(status));
}

/** Draw the last hour; of what the status has too, the present is the status's. */
function showHistory({ series, step_s: step }, status) {
  for (const [name, tile] of tiles) {
    const values = name === "refusals" ? series[name] : [...series[name].slice(0, -1), status[name]];
    const highest = Math.max(...values);
    const shown = name === "memory_bytes" ? bytes(highest) : count(highest);
    const text = name === "refusals" ? `at most ${shown} in ${step} s` : `at most ${shown}`;
    const shaking = name === "connections" ? status.pending_handshakes : 0;
    tile.peak.textContent = shaking ? `${text}; ${count(shaking)} shake hands` : text;
    draw(tile.picture, values, `${tile.title} in the last hour: ${text}`);
  }
}
