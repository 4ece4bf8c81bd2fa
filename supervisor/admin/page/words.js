// Figures as people read them.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export const count = new Intl.NumberFormat("en").format;

/** 86 MiB */
export function bytes(value) {
  let unit = 0;
  for (; value >= 1024 && unit < UNITS.length - 1; unit++) value /= 1024;
  return `${value < 10 && unit > 1 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}`;
}

/** 12 s, 3 min, 4 h 5 min, 6 d 7 h */
export function duration(seconds) {
  const minutes = Math.floor(seconds / 60), hours = Math.floor(minutes / 60), days = Math.floor(hours / 24);
  if (minutes < 1) return `${Math.max(0, Math.floor(seconds))} s`;
  if (hours < 1) return `${minutes} min`;
  return days < 1 ? `${hours} h ${minutes % 60} min` : `${days} d ${hours % 24} h`;
}

/** How long ago a moment of the wall clock was. */
export const ago = (unixSeconds) => `${duration(Date.now() / 1000 - unixSeconds)} ago`;

/** The time of day. */
export const clock = (date) => date.toLocaleTimeString("en-GB");
