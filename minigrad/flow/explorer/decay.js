// |dL/dstate| against the steps it has travelled, on a log axis, with the fitted line and verdicts.
//
// The loss is at the right, as in the graph: walking back in time is walking left.

const PLOT = { width: 560, height: 310, left: 46, right: 14, top: 12, bottom: 40 };
const MAX_DECADES = 60;
let plot = null; // {x, y, series}

function seriesOf(model, network) {
  return model.main
    .filter((row) => row.source >= 0)
    .map((row) => ({
      row,
      network,
      points: Array.from({ length: row.entries }, (_, j) => j)
        .filter((j) => row.lag(j) >= 0)
        .map((j) => ({ j, lag: row.lag(j), norm: row.norm(j) })),
    }));
}

function drawDecay() {
  PLOT.width = Math.min(Math.max($("decay").clientWidth, 260), 900);
  const all = networks.flatMap((n, i) =>
    state.alone && i !== state.network ? [] : seriesOf(modelOf(n), i),
  );
  const powers = all
    .flatMap((s) => s.points.map((p) => Math.log10(p.norm)))
    .filter(Number.isFinite);
  if (!powers.length) {
    plot = null;
    $("decay").replaceChildren(
      make("p", { class: "muted" }, "No gradient arrived: there is no curve."),
    );
    drawVerdicts();
    return;
  }
  const high = Math.ceil(Math.max(...powers) + 1e-9);
  const low = Math.max(Math.min(Math.floor(Math.min(...powers)), high - 1), high - MAX_DECADES);
  const longest = Math.max(...all.flatMap((s) => s.points.map((p) => p.lag)), 1);
  const inner = PLOT.width - PLOT.left - PLOT.right;
  const x = (lag) => PLOT.width - PLOT.right - (lag / longest) * inner;
  const y = (power) =>
    PLOT.top +
    ((high - Math.max(power, low)) / (high - low)) * (PLOT.height - PLOT.top - PLOT.bottom);
  const svg = draw("svg", {
    viewBox: `0 0 ${PLOT.width} ${PLOT.height}`,
    class: "plot",
    role: "img",
  });
  svg.setAttribute("aria-label", all.map(({ row, network }) => summaryOf(row, network)).join(". "));
  svg.append(...grid(x, y, low, high, longest));
  plot = { x, y, series: all };
  for (const series of all) drawSeries(svg, series);
  if (all.length > 1) svg.append(...tags(all));
  $("decay").replaceChildren(svg);
  drawVerdicts();
  paintDecay();
}

function summaryOf(row, network) {
  const sign = row.layer.reverse ? " reverse" : "";
  return `${networks[network].name}${sign}: ${row.verdict.kind}, ${row.verdict.reason}`;
}

function grid(x, y, low, high, longest) {
  const parts = [];
  const every = [1, 2, 3, 5, 10, 20].find((n) => (high - low) / n <= 7) ?? 30;
  for (let power = high; power >= low; power -= 1) {
    if ((high - power) % every !== 0) continue;
    parts.push(
      draw("line", {
        class: "grid",
        x1: PLOT.left,
        x2: PLOT.width - PLOT.right,
        y1: y(power),
        y2: y(power),
      }),
    );
    parts.push(
      draw(
        "text",
        { x: PLOT.left - 7, y: y(power) + 4, "text-anchor": "end" },
        `10${superscript(power)}`,
      ),
    );
  }
  const room = (x(0) - x(longest)) / 56;
  const step =
    [1, 2, 5, 10, 20, 25, 50, 100, 200, 500, 1000, 2000].find((n) => longest / n <= room) ?? 5000;
  for (let lag = 0; lag <= longest; lag += step) {
    parts.push(
      draw(
        "text",
        { x: x(lag), y: PLOT.height - 20, "text-anchor": "middle" },
        lag === 0 ? "loss" : `−${lag}`,
      ),
    );
  }
  const middle = (PLOT.left + PLOT.width - PLOT.right) / 2;
  parts.push(
    draw(
      "text",
      { x: middle, y: PLOT.height - 3, "text-anchor": "middle" },
      "steps back from the loss",
    ),
  );
  return parts;
}

function drawSeries(svg, series) {
  const { row, network, points } = series;
  const chosen = network === state.network;
  const color = seriesColor(network);
  const group = draw("g", {
    class: `series${chosen ? " chosen" : ""}${row.layer.reverse ? " reverse" : ""}`,
  });
  styled(group, { color });
  series.ahead = draw("path", { class: "ahead", d: path(points) });
  series.done = draw("path", { class: "done" });
  series.dot = draw("circle", { r: chosen ? 5 : 3.5 });
  group.append(series.ahead, series.done, series.dot);
  const { fit } = row.verdict;
  if (chosen && fit && points.length > 1) {
    const at = (lag) => (Number(fit.intercept) + lag * Math.log(Number(fit.rate))) / Math.LN10;
    const last = points.reduce((most, p) => Math.max(most, p.lag), 0);
    const line = fitLine(at, last, plot);
    if (line) group.append(draw("line", { class: "fit", ...line }));
  }
  svg.append(group);
}

function fitLine(at, last, { x, y }) {
  const [a, b] = [at(0), at(last)];
  if (!Number.isFinite(a) || !Number.isFinite(b)) return null;
  return { x1: x(0), y1: y(a), x2: x(last), y2: y(b) };
}

// The names at the far ends of the curves, pushed apart where they would overlap.
function tags(all) {
  const places = all.map(({ row, network, points }) => {
    const far = points.filter((p) => Number.isFinite(Math.log10(p.norm))).at(0);
    const side =
      modelOf(networks[network]).main.length > 1 ? ` ${row.layer.reverse ? "←" : "→"}` : "";
    const name = networks[network].name;
    return (
      far && {
        network,
        text: `${name.length > 18 ? `${name.slice(0, 17)}…` : name}${side}`,
        x: plot.x(far.lag),
        y: plot.y(Math.log10(far.norm)) - 8,
      }
    );
  });
  const placed = places.filter(Boolean).sort((a, b) => b.y - a.y);
  placed.forEach((place, i) => {
    if (i > 0 && Math.abs(place.x - placed[i - 1].x) < 90)
      place.y = Math.min(place.y, placed[i - 1].y - 13);
  });
  return placed.map(({ network, text, x, y }) =>
    styled(draw("text", { class: "tag", x: x + 6, y: Math.max(y, 10) }, text), {
      fill: seriesColor(network),
    }),
  );
}

// Zero, NaN and Inf interrupt the line.
function path(points) {
  let open = false;
  let text = "";
  for (const { lag, norm } of points) {
    const power = Math.log10(norm);
    if (!Number.isFinite(power)) {
      open = false;
      continue;
    }
    text += `${open ? "L" : "M"}${plot.x(lag).toFixed(1)} ${plot.y(power).toFixed(1)}`;
    open = true;
  }
  return text;
}

function paintDecay() {
  if (!plot) return;
  for (const series of plot.series) {
    const reached = series.points.filter(
      ({ j }) => state.phase === "backward" && series.row.reach(j) <= state.k,
    );
    series.done.setAttribute("d", path(reached));
    const front = reached.reduce((far, p) => (far === null || p.lag > far.lag ? p : far), null);
    const power = front ? Math.log10(front.norm) : NaN;
    series.dot.setAttribute("visibility", Number.isFinite(power) ? "visible" : "hidden");
    if (Number.isFinite(power)) {
      series.dot.setAttribute("cx", plot.x(front.lag));
      series.dot.setAttribute("cy", plot.y(power));
    }
  }
}

function drawVerdicts() {
  const model = selected();
  const parts = [];
  const said = new Set(); // the two directions of a layer often want the same
  for (const row of model.main) {
    const { kind, reason, advice, fit } = row.verdict;
    const side = model.main.length > 1 ? ` ${row.label}` : "";
    parts.push(
      make(
        "p",
        { class: "verdict-line" },
        make("strong", {}, `${model.network.name}${side} `),
        chip(kind),
        ` ${reason}.`,
      ),
    );
    if (advice && !said.has(advice))
      parts.push(make("p", { class: "advice" }, make("b", {}, "Try: "), advice));
    said.add(advice);
    for (const line of flaws(row.layer)) parts.push(make("p", { class: "advice" }, line));
    if (fit) parts.push(make("p", { class: "muted fit-line" }, fitText(fit)));
  }
  $("verdicts").replaceChildren(...parts);
}

// Dead units, NaN and Inf: only where there are any.
function flaws({ dead, nonfinite }) {
  const lines = [];
  for (const [name, count] of Object.entries(dead))
    lines.push(`${plural(count, "unit")} of ${name} ${count === 1 ? "does" : "do"} nothing.`);
  for (const [name, [values, norms]] of Object.entries(nonfinite))
    lines.push(`${name}: NaN or Inf in ${plural(values, "value")} and ${plural(norms, "norm")}.`);
  return lines;
}

function fitText(fit) {
  const [rate, low, high] = [fit.rate, fit.low, fit.high].map((x) => format(Number(x), 3));
  const range = `(95 %: ${low} to ${high})`;
  return `Dashed: the fit through ${plural(fit.points, "step")}, ×${rate} per step back ${range}.`;
}

function startDecay() {
  on("shape", drawDecay);
  new ResizeObserver(() => {
    if (Math.abs($("decay").clientWidth - PLOT.width) > 1 && PLOT.width < 900) drawDecay();
  }).observe($("decay"));
  on("time", paintDecay);
}
