// |dL/dS| of every cut against the steps it has travelled, on a log axis, with the fitted line.
//
// The loss is at the right, as in the graph: walking back in time is walking left. Lines are drawn
// in an svg of their own, whose edges are those of the axes: what goes beyond is cut off there.

const PLOT = { width: 560, height: 310, left: 46, right: 14, top: 12, bottom: 40 };
const MAX_DECADES = 60;
const MOST_POINTS = 600; // of a curve: more than the plot has pixels for
let plot = null; // {x, y, low, high, series}

function seriesOf(model, network) {
  return model.main.map((row) => {
    const points = Array.from({ length: row.entries }, (_, j) => j)
      .filter((j) => row.lag(j) >= 0)
      .map((j) => ({ j, lag: row.lag(j), norm: row.norm(j) }))
      .sort((a, b) => a.lag - b.lag);
    return { row, network, points, drawn: fewer(points) };
  });
}

// Of every few neighbours the largest and the smallest, so that no peak is lost.
function fewer(points) {
  const by = Math.ceil((2 * points.length) / MOST_POINTS);
  if (by < 3) return points;
  const kept = [];
  for (let i = 0; i < points.length; i += by) {
    const part = points.slice(i, i + by);
    const order = (a, b) => a.norm - b.norm || a.lag - b.lag;
    const ends = new Set([part[0], [...part].sort(order)[0], [...part].sort(order).at(-1)]);
    const broken = part.find((p) => !(p.norm > 0 && p.norm < Infinity));
    if (broken) ends.add(broken);
    kept.push(...[...ends].sort((a, b) => a.lag - b.lag));
  }
  if (kept.at(-1) !== points.at(-1)) kept.push(points.at(-1));
  return kept;
}

let plotRoom = 0;

function drawDecay() {
  plotRoom = $("decay").clientWidth;
  PLOT.width = Math.min(Math.max(plotRoom, 260), 900);
  PLOT.left = 53 + (longestPathName(selected()) - 1) * 6.5;
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
    return;
  }
  const high = Math.ceil(largest(powers) + 1e-9);
  const low = Math.max(Math.min(Math.floor(smallest(powers)), high - 1), high - MAX_DECADES);
  const longest = Math.max(...all.map((s) => s.points.at(-1)?.lag ?? 0), 1);
  const x = (lag) => PLOT.width - PLOT.right - (lag / longest) * innerWidthOf(PLOT);
  const y = (power) => PLOT.top + ((high - power) / (high - low)) * innerHeightOf(PLOT);
  const svg = draw("svg", {
    viewBox: `0 0 ${PLOT.width} ${PLOT.height}`,
    class: "plot",
    role: "img",
  });
  svg.setAttribute("aria-label", all.map(({ row, network }) => summaryOf(row, network)).join(". "));
  plot = { x, y, low, high, longest, series: all };
  const inside = inset();
  svg.append(...grid(), inside);
  for (const series of all) drawSeries(series, inside, svg);
  if (all.length > 1) svg.append(...tags(all));
  $("decay").replaceChildren(svg);
  paintDecay();
}

const innerWidthOf = ({ width, left, right }) => width - left - right;
const innerHeightOf = ({ height, top, bottom }) => height - top - bottom;
const largest = (list) => list.reduce((a, b) => Math.max(a, b), -Infinity);
const smallest = (list) => list.reduce((a, b) => Math.min(a, b), Infinity);

// The room between the axes, and half a line's width more: an inner svg cuts off what lies outside.
function inset() {
  const [x, y] = [PLOT.left, PLOT.top - 2];
  const [width, height] = [innerWidthOf(PLOT) + 2, innerHeightOf(PLOT) + 4];
  return draw("svg", { x, y, width, height, viewBox: `${x} ${y} ${width} ${height}` });
}

function summaryOf(row, network) {
  return `${networks[network].name} ${row.side}: ${row.verdict.kind}, ${row.verdict.reason}`;
}

function grid() {
  const { x, y, low, high, longest } = plot;
  const parts = [];
  const every = [1, 2, 3, 5, 10, 20].find((n) => (high - low) / n <= 7) ?? 30;
  for (let power = high; power >= low; power -= every) {
    parts.push(
      draw("line", {
        class: "grid",
        x1: PLOT.left,
        x2: PLOT.width - PLOT.right,
        y1: y(power),
        y2: y(power),
      }),
      draw(
        "text",
        { x: PLOT.left - 7, y: y(power) + 4, "text-anchor": "end" },
        `10${superscript(power)}`,
      ),
    );
  }
  for (const lag of lagTicks(longest, innerWidthOf(PLOT))) {
    parts.push(
      draw(
        "text",
        { x: x(lag), y: PLOT.height - 20, "text-anchor": "middle" },
        lag === 0 ? "loss" : `−${lag}`,
      ),
    );
  }
  const middle = PLOT.left + innerWidthOf(PLOT) / 2;
  const what = "steps back from the loss";
  return [...parts, draw("text", { x: middle, y: PLOT.height - 3, "text-anchor": "middle" }, what)];
}

function lagTicks(longest, room) {
  const step =
    [1, 2, 5, 10, 20, 25, 50, 100, 200, 500, 1000, 2000].find((n) => longest / n <= room / 56) ??
    5000;
  return Array.from({ length: Math.floor(longest / step) + 1 }, (_, i) => i * step);
}

function drawSeries(series, inside, svg) {
  const { row, network, drawn } = series;
  const chosen = network === state.network;
  const look = `series${chosen ? " chosen" : ""}${row.layer.reverse ? " reverse" : ""}`;
  const color = seriesColor(network);
  series.ahead = draw("path", { class: "ahead", d: path(drawn) });
  series.done = draw("path", { class: "done" });
  series.dot = draw("circle", { r: chosen ? 5 : 3.5 });
  const lines = styled(draw("g", { class: look }, series.ahead, series.done), { color });
  const { fit } = row.verdict;
  if (chosen && fit && isJudged() && drawn.length > 1) {
    const at = (lag) => (Number(fit.intercept) + lag * Math.log(Number(fit.rate))) / Math.LN10;
    const line = fitLine(at, drawn.at(-1).lag);
    if (line) lines.append(draw("line", { class: "fit", ...line }));
  }
  if (chosen && isJudged()) svg.append(...reachMark(row));
  inside.append(lines);
  svg.append(styled(draw("g", { class: look }, series.dot), { color }));
}

function fitLine(at, last) {
  const [a, b] = [at(0), at(last)];
  if (!Number.isFinite(a) || !Number.isFinite(b)) return null;
  return { x1: plot.x(0), y1: plot.y(a), x2: plot.x(last), y2: plot.y(b) };
}

// Where less than 1e-3 is left, if that is in the picture.
function reachMark({ verdict }) {
  const reach = Number(verdict.reach);
  if (!(reach <= plot.longest)) return [];
  const x = plot.x(reach);
  const [top, bottom] = [PLOT.top, PLOT.height - PLOT.bottom];
  const text = draw("text", { class: "tag", x: x + 5, y: bottom - 6 }, verdict.reached);
  if (x > PLOT.width - 90) {
    text.setAttribute("x", x - 5);
    text.setAttribute("text-anchor", "end");
  }
  return [draw("line", { class: "reach", x1: x, x2: x, y1: top, y2: bottom }), text];
}

// The names at the far ends of the curves, pushed apart where they would overlap.
function tags(all) {
  const places = all.map(({ row, network, points }) => {
    const far = points.findLast((p) => {
      const power = Math.log10(p.norm);
      return Number.isFinite(power) && power >= plot.low;
    });
    const { name } = networks[network];
    return (
      far && {
        network,
        text: `${brief(name, 18)} ${row.side}`.trim(),
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
  for (const { row, drawn, points, done, dot } of plot.series) {
    const isDone = ({ j }) => state.phase === "backward" && row.reach(j) <= walked();
    done.setAttribute("d", path(drawn.filter(isDone)));
    const front = points.findLast(isDone);
    const power = front ? Math.log10(front.norm) : NaN;
    const visible = Number.isFinite(power) && power >= plot.low;
    dot.setAttribute("visibility", visible ? "visible" : "hidden");
    if (visible) {
      dot.setAttribute("cx", plot.x(front.lag));
      dot.setAttribute("cy", plot.y(power));
    }
  }
}

function startDecay() {
  on("shape", drawDecay);
  new ResizeObserver(() => {
    if ($("decay").clientWidth === plotRoom) return;
    drawDecay();
    drawPaths();
  }).observe($("decay"));
  on("time", paintDecay);
}
