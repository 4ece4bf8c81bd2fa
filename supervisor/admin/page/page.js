// Asks the relay again and again, and says plainly when it does not answer. What is shown is in view.js.

import { show } from "./view.js";
import { clock } from "./words.js";

const EVERY_MS = 1000;
const RETRY_MS = 500;
const ANSWER_MS = 5000;
const HOUR_EVERY_MS = 10_000;
const TOKEN = "frost-relay-token";
const TITLES = { serving: "Serving", partly: "Not all serves", silent: "No answer", token: "Token wanted" };

const at = (id) => document.getElementById(id);
let timer = 0;
let asking = false;
let failures = 0;
let answered = null;
let hour = null;
let hourAt = -Infinity;
let refused = 0;

class TokenWanted extends Error {}
class NoAnswer extends Error {}

async function ask(path) {
  const token = sessionStorage.getItem(TOKEN);
  let answer, content;
  try {
    answer = await fetch(path, {
      headers: token ? { Authorization: `Bearer ${token}` } : {},
      cache: "no-store",
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    content = await (answer.ok ? answer.json() : answer.text());
  } catch {
    throw new NoAnswer("The relay does not answer");
  }
  if (answer.status === 401) throw new TokenWanted(token ? "That is not the token." : "");
  if (!answer.ok) throw new NoAnswer(`The relay answers "${content.trim()}"`);
  return content;
}

async function look() {
  const status = await ask("status.json");
  const total = Object.values(status.refusals).reduce((sum, each) => sum + each, 0);
  if (total !== refused || performance.now() - hourAt >= HOUR_EVERY_MS) {
    hour = await ask("history.json");
    hourAt = performance.now();
    refused = total;
  }
  show(status, hour);
  return status;
}

/** One look, and the next one after a while. Nothing is asked while nobody looks. */
async function turn() {
  clearTimeout(timer);
  if (asking || document.hidden) return;
  asking = true;
  let next = EVERY_MS;
  try {
    const status = await look();
    failures = 0;
    answered = new Date();
    say(...stateOf(status));
    reveal({ figures: true });
  } catch (error) {
    if (error instanceof TokenWanted) {
      next = null;
      say("token", `This relay wants a token. ${error.message}`);
      reveal({ token: true });
    } else if (error instanceof NoAnswer) {
      failures++;
      next = RETRY_MS;
      if (failures > 1) silent(error.message);
    } else {
      silent("This page has a fault, and shows nothing new");
      throw error;
    }
  } finally {
    asking = false;
    if (next !== null) timer = setTimeout(turn, next);
  }
}

const STATES = {
  empty: "was not started yet", starting: "is starting", backoff: "waits for its restart",
  failed: "dies again and again", draining: "drains", stopping: "is stopping", stopped: "has stopped",
};

function stateOf(status) {
  const others = status.workers.filter(({ state }) => state !== "ready");
  if (others.some(({ role, state }) => role === "supervisor" && state === "draining")) {
    return ["partly", "Draining: nobody new is taken in, and it ends when its circuits have."];
  }
  const waiting = others.map(({ name, state }) => `${name} ${STATES[state]}`);
  if (!status.ready) return ["partly", `Not all of it serves: ${waiting.join(", ")}.`];
  return ["serving", waiting.length ? `Serving; ${waiting.join(", ")}.` : `Serving. All ${status.workers.length} processes are ready.`];
}

/** One failure may be the admin process being replaced; the second in a row is told. */
function silent(what) {
  say("silent", what + (answered ? ` since ${clock(answered)}. What is below is from then.` : "."));
  at("figures").classList.add("stale");
}

/** Only what changes is written: a screen reader reads it out. */
function say(state, text) {
  if (at("state").textContent === text) return;
  at("state").dataset.state = state;
  at("state").textContent = text;
  document.title = `${TITLES[state]} – FROST Relay`;
}

function reveal({ figures = false, token = false }) {
  at("figures").classList.remove("stale");
  at("figures").hidden = !figures;
  at("ask-token").hidden = !token;
}

at("ask-token").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, at("token").value.trim());
  at("token").value = "";
  turn();
});
document.addEventListener("visibilitychange", turn);
turn();
