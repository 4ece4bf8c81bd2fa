// A line with the area below it, drawn as SVG. What was not measured is a gap.

const NS = "http://www.w3.org/2000/svg";
const HEIGHT = 100;

/** A new, empty chart. */
export function chart() {
  const svg = document.createElementNS(NS, "svg");
  svg.setAttribute("class", "chart");
  svg.setAttribute("role", "img");
  svg.setAttribute("preserveAspectRatio", "none");
  for (const name of ["area", "line"]) {
    const path = document.createElementNS(NS, "path");
    path.setAttribute("class", name);
    svg.append(path);
  }
  return svg;
}

/** Show values (numbers, or null for a gap), the newest last; `label` says in words what they show. */
export function draw(svg, values, label) {
  const top = Math.max(1, ...values);
  const y = (value) => (HEIGHT * (1.04 - value / top) / 1.08).toFixed(1);
  let line = "", area = "";
  for (const [from, to] of runs(values)) {
    const points = values.slice(from, to).map((value, at) => `${from + at} ${y(value)}`);
    line += `M${points.join("L")}h.01`; // a run of one point is a dot
    area += `M${from} ${HEIGHT}L${points.join("L")}L${to - 1} ${HEIGHT}Z`;
  }
  svg.setAttribute("viewBox", `0 0 ${values.length} ${HEIGHT}`);
  svg.setAttribute("aria-label", label);
  svg.children[0].setAttribute("d", area);
  svg.children[1].setAttribute("d", line);
}

/** The stretches without a gap, each from its first index to the one behind its last. */
function* runs(values) {
  let from = -1;
  for (let at = 0; at <= values.length; at++) {
    const measured = at < values.length && values[at] !== null;
    if (measured && from < 0) from = at;
    if (!measured && from >= 0) {
      yield [from, at];
      from = -1;
    }
  }
}
