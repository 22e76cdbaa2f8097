// By which path the gradient came: for every state in a cut its share of |dL/dS|², lag by lag.
//
// A row for each state of each layer, under the decay and with the same axis of steps.

const LINE = { height: 20, gap: 5, top: 4 };
const LONGEST = 12; // characters of a name beside its line
let lines = []; // {row, i, text, mark} of what "time" moves

function drawPaths() {
  const model = selected();
  const rows = isJudged() ? model.main.filter((row) => row.shares.length > 1) : [];
  $("paths-box").hidden = rows.length === 0 || plot === null;
  lines = [];
  if ($("paths-box").hidden) return;
  $("paths").replaceChildren(...rows.map((row) => pathsOf(model, row)));
  paintPaths();
}

function pathsOf(model, row) {
  const count = row.shares.length;
  const height = 2 * LINE.top + count * (LINE.height + LINE.gap);
  const svg = draw("svg", {
    viewBox: `0 0 ${PLOT.width} ${height}`,
    class: "plot",
    role: "img",
    "aria-label": `Shares of |dL/dS|² ${row.side}: ${row.verdict.carried}`,
  });
  const from = plot.x(row.lag(0));
  row.shares.forEach((share, i) => {
    const bottom = LINE.top + (i + 1) * (LINE.height + LINE.gap) - LINE.gap;
    const y = (x) => bottom - (Number.isFinite(x) ? x : 0) * LINE.height;
    const points = Array.from({ length: row.entries }, (_, j) => j)
      .filter((j) => row.lag(j) >= 0)
      .map((j) => `${plot.x(row.lag(j)).toFixed(1)} ${y(share[j]).toFixed(1)}`);
    const area = `M${from.toFixed(1)} ${bottom}L${points.join("L")}L${plot.x(0)} ${bottom}Z`;
    const place = { class: "path-name", x: 0, y: bottom - 5 };
    const label = draw("text", place, brief(pathName(model, row, i), LONGEST));
    const text = draw("text", { x: PLOT.left - 6, y: bottom - 5, "text-anchor": "end" });
    const mark = draw("line", { class: "now-mark", y1: bottom - LINE.height, y2: bottom });
    const base = { x: from, y: bottom - LINE.height, width: plot.x(0) - from, height: LINE.height };
    svg.append(draw("rect", { class: "path-room", ...base }), draw("path", { class: "path", d: area }));
    svg.append(mark, label, text);
    lines.push({ row, share, text, mark });
  });
  const caption = row.side ? make("p", { class: "muted" }, `${row.side} direction`) : null;
  return make("figure", {}, ...[caption, svg].filter(Boolean));
}

// "c", or "l1 c" where there are several layers.
function pathName(model, row, i) {
  const [path, name] = row.cut.labels[i];
  const level = model.levels.findIndex((layers) => layers.some((layer) => layer.path === path));
  return model.levels.length > 1 ? `l${level} ${name}` : name;
}

const longestPathName = (model) => {
  const lengths = model.main.flatMap((row) => row.shares.map((_, i) => pathName(model, row, i).length));
  return Math.min(Math.max(1, ...lengths), LONGEST);
};

function paintPaths() {
  for (const { row, share, text, mark } of lines) {
    const front = forward() ? -1 : frontOf(row);
    const j = front >= 0 ? front : entryOfLoss(row);
    mark.setAttribute("visibility", front >= 0 ? "visible" : "hidden");
    const x = plot.x(row.lag(j));
    for (const end of ["x1", "x2"]) mark.setAttribute(end, x);
    const known = Number.isFinite(share[j]);
    text.textContent = known ? percent(share[j]) : "";
  }
}

function startPaths() {
  on("shape", drawPaths);
  on("time", paintPaths);
}
