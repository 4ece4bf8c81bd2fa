// What an operator should look at, decided from /status.json: [text, whether it is bad already].

import { ago, bytes, count, duration } from "./words.js";

const NEARLY = 0.9;
const WARN_DAYS = 14; // as the log does
export const RECENT_S = 600;

export const LIMITED = { reservations: "max_reservations", circuits: "max_circuits", connections: "max_connections" };

export function notices(status) {
  return [...short(status), ...full(status), ...restarts(status), ...certificates(status), ...reloads(status), ...canary(status), ...announced(status), ...audit(status), ...denied(status)];
}

function* short(status) {
  if (status.memory_short) yield [`Memory is short, and nobody new is taken: ${bytes(status.memory_bytes)} of limits.max_memory_mb, which comes to ${bytes(status.memory_limit_bytes)}.`, true];
}

function* full(status) {
  for (const [name, limit] of Object.entries(LIMITED)) {
    const held = status[name], most = status.limits[limit];
    if (held >= most) yield [`No ${name} are left: ${count(held)} of limits.${limit} = ${count(most)}.`, true];
    else if (held >= NEARLY * most) yield [`Few ${name} are left: ${count(held)} of limits.${limit} = ${count(most)}.`, false];
  }
}

function* restarts(status) {
  for (const { name, role, last_end: end } of status.workers) {
    if (!end || end.how === "in order" || end.ago_s >= RECENT_S) continue;
    const lost = role === "listener" ? ", and its connections with it" : "";
    yield [`${name} ended ${duration(end.ago_s)} ago (${end.how})${lost}. The log says more.`, false];
  }
}

function* certificates(status) {
  for (const { listener, days_left: days } of status.certificates) {
    if (days < 0) yield [`The certificate of ${listener} has ended.`, true];
    else if (days <= WARN_DAYS) yield [`The certificate of ${listener} ends in ${days} days.`, false];
  }
}

function* reloads(status) {
  const last = status.reload.outcomes.at(-1);
  if (!last) return;
  if (!last.ok) yield [`The last reload was refused, and nothing changed: ${last.error}`, false];
  if (last.needs_restart.length) yield [`Changed in the settings, and waiting for a restart: ${last.needs_restart.join(", ")}.`, false];
  if (last.late.length) yield [`Not yet living by the new settings: ${last.late.join(", ")}.`, false];
}

function* canary(status) {
  const seen = status.canary;
  if (seen?.ok === false) {
    yield [`Seen from outside it fails since ${ago(seen.failing_since_unix_s)}, at '${seen.failed_step}': ${seen.cause} ${seen.remedy}`, true];
  }
}

function* announced(status) {
  for (const { host, announce } of status.unannounced ?? []) {
    yield [`Peers come by ${host}, which no announced address has, and will not find their way back. Add "${announce}" to announce.addresses.`, true];
  }
}

function* audit(status) {
  const mended = status.audit?.mended;
  if (mended) yield [`The registry and its workers did not agree about ${count(mended)} slots since the start; the audit has mended them. The log says which.`, false];
}

function* denied(status) {
  for (const { peer, address, crashes, left_s: left } of status.denied ?? []) {
    yield [`${crashes} processes died of what ${peer ?? address} had sent; it is kept out for ${duration(left)} more. The log has the stacks, if there are any.`, true];
  }
}
