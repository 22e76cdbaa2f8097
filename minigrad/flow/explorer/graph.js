// The unrolled graph: for every network a track with a column for each step and a row for each
// state, drawn as SVG. "shape" draws it anew; "time" only paints the nodes that changed (paint.js).

const MARGIN = 3;
const EDGE = 14; // to the right of the last column: what is wider than its column ends there
const PAPER_WIDTH = 640; // pixels that an upright A4 or Letter page has room for
const SMALL = 11.5; // the least width of a step that has room for a character
let pitch = 14;
let nodes = []; // {element, label, numeral, row, j, model, network}
let tracks = []; // {paths, losses, ...} for each network shown
let roving = null; // the one node that Tab reaches

const rowHeight = () => (pitch >= 46 ? 48 : pitch >= 24 ? 34 : 24);
const nodeHeight = () => rowHeight() - (pitch >= 24 ? 12 : 6);
// A loss that a reverse layer meets at the first step stands before it: a column more.
let lead = 0;
const columnX = (t) => MARGIN + (t + lead) * pitch;

function choosePitch() {
  const columns = Math.max(...shown().map(([model]) => model.span)) + 1 + lead;
  if (printing) return Math.min((PAPER_WIDTH - labelWidth()) / columns, 30);
  if (Number(state.zoom)) return Number(state.zoom);
  const room = Math.max($("graph").clientWidth - labelWidth() - 2 * MARGIN - EDGE, 60);
  if (state.zoom === "all" || room / columns >= 9) return Math.min(room / columns, 58);
  // All of it would be too small to read: then what comes before the loss, if that has room.
  const before = Math.max(...shown().map(([model]) => lossColumn(model))) + 1.3 + lead;
  return Math.max(room / before, 9) === 9 ? SMALL : Math.min(room / before, SMALL);
}

const labelWidth = () => (narrow.matches ? 46 : 74);

function drawGraph() {
  lead = everyModel.some((model) => lossBefore(model)) ? 1 : 0;
  pitch = choosePitch();
  tracks = shown().map(([model, i]) => trackOf(model, i));
  $("graph").replaceChildren(axis(), ...tracks.map((track) => track.element));
  styled($("graph"), { "--labels": `${labelWidth()}px` });
  drawn = null; // paintGraph draws what is in sight
  showTrack($("graph"));
  drawLegend();
}

// Where the tracks have less room than they need, the selected one is in sight.
function showTrack(box) {
  const track = tracks.find(({ network }) => network === state.network)?.element;
  const [top, bottom] = track ? [track.offsetTop, track.offsetTop + track.offsetHeight] : [0, 0];
  if (top < box.scrollTop || bottom > box.scrollTop + box.clientHeight) box.scrollTop = top;
}

function axis() {
  const width = columnX(LAST + 1) + EDGE;
  const svg = draw("svg", {
    class: "axis",
    width,
    height: 22,
    viewBox: `0 0 ${width} 22`,
    "aria-hidden": true,
  });
  const every =
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000].find((n) => n * pitch >= 38) ?? 5000;
  for (let t = 0; t < LAST; t += 1) {
    if (t !== 0 && (t + 1) % every !== 0) continue;
    if (t === 0 && every > 1 && (every - 1) * pitch < 26) continue;
    svg.append(
      draw("text", { x: columnX(t) + pitch / 2, y: 15, "text-anchor": "middle" }, String(t + 1)),
    );
  }
  return make(
    "div",
    { class: "lane axis-lane" },
    make("div", { class: "labels axis-label" }, "step"),
    svg,
  );
}

// Rows from top to bottom: upper levels first; h on top of its layer, except in the reverse layer
// of a pair, whose h is next to the inputs that both read. What a cut carries all in all stands at
// the far side of its states from there.
function orderOf(model) {
  const cuts = new Set(model.main.filter((row) => row.cut && !row.only));
  const take = (belongs) => {
    const taken = [...cuts].filter(belongs);
    taken.forEach((row) => cuts.delete(row));
    return taken.map((row) => ({ row }));
  };
  const lanes = take((row) => row.cut.joined);
  [...model.levels].reverse().forEach((level, i) => {
    const lowest = i === model.levels.length - 1;
    for (const layer of [...level].reverse()) {
      const names = Object.keys(layer.norms);
      const first = mainState(layer);
      const others = names.filter((name) => name !== first);
      const paired = level.length === 2 && lowest;
      const order = paired && layer.reverse ? [...others, first] : [first, ...others];
      const rows = order.map((name) => ({ row: model.rows.get(layer.path + "\n" + name) }));
      const whole = take((row) => row.parts.some((part) => part.layer === layer));
      const isBelow = paired && !layer.reverse;
      if (isBelow) lanes.push({ inputs: true });
      lanes.push(...(isBelow ? [...rows, ...whole] : [...whole, ...rows]));
    }
    if (lowest && level.length !== 2) lanes.push({ inputs: true });
  });
  const used = model.inputs !== null || Object.keys(model.network.text).length > 0;
  return lanes.filter((lane) => !lane.inputs || used);
}

function trackOf(model, network) {
  const lanes = orderOf(model);
  const height = lanes.length * rowHeight() + 8;
  const width = columnX(LAST + 1) + EDGE;
  const svg = draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group" });
  svg.classList.toggle("dense", pitch < 5);
  svg.setAttribute(
    "aria-label",
    `${model.network.name}, unrolled over ${plural(model.span, "step")}`,
  );
  const labels = make("div", { class: "labels" });
  lanes.forEach((lane, i) => {
    lane.y = 4 + i * rowHeight();
    const text = lane.inputs ? "x" : lane.row.label;
    const path = lane.inputs ? "inputs" : lane.row.layer.path || "network";
    labels.append(
      styled(
        make(
          "div",
          { title: path },
          make("b", {}, text),
          " ",
          make("small", {}, sideOf(model, lane)),
        ),
        {
          height: `${rowHeight()}px`,
        },
      ),
    );
  });
  const track = { model, network, lanes, element: null, inputs: [], losses: [] };
  const links = draw("g", { class: "links" });
  svg.append(links);
  for (const lane of lanes) {
    svg.append(laneGroup(lane, links));
    if (lane.inputs) track.inputsY = lane.y + nodeHeight() / 2;
  }
  drawLoss(track, svg);
  track.element = make(
    "div",
    { class: "track" },
    trackHead(model, network),
    make("div", { class: "lane" }, labels, svg),
  );
  return track;
}

// Where the nodes of a lane go, and the line that leads from step to step.
function laneGroup(lane, links) {
  if (lane.inputs) {
    lane.group = draw("g", { class: "inputs", "aria-hidden": true });
    return lane.group;
  }
  const { layer, name } = lane.row;
  const middle = lane.y + nodeHeight() / 2;
  const [first, last] = [smallest(layer.steps), largest(layer.steps)];
  const [x1, x2] = [first, last].map((t) => columnX(t) + pitch / 2);
  lane.links = draw("g", {});
  links.append(draw("line", { x1, x2, y1: middle, y2: middle }), lane.links);
  lane.group = draw("g", { role: "group", "aria-label": `${layer.path} ${name}` });
  return lane.group;
}

function sideOf(model, lane) {
  if (lane.row?.cut && !lane.row.only)
    return narrow.matches ? "" : [...new Set(lane.row.cut.labels.map(([, name]) => name))].join("+");
  if (lane.inputs || model.levels.length === 1) return "";
  const { layer } = lane.row;
  if (layer.before + layer.after > 0) return /#\d+/.exec(layer.path)?.[0] ?? "#1";
  const level = model.levels.findIndex((layers) => layers.includes(lane.row.layer));
  return `l${level}`;
}

function trackHead(model, network) {
  const facts = [...model.main.map(rateOf), model.source.note];
  const head = make("div", { class: "track-head" });
  head.append(
    styled(make("span", { class: "swatch", "aria-hidden": true }), {
      background: seriesColor(network),
    }),
    make("strong", {}, model.network.name),
    " ",
    ...Array.from(new Set(model.main.map((r) => r.verdict.kind)), (kind) => chip(kind)),
    ...inDepth(model),
    make("span", { class: "muted" }, facts.filter(Boolean).join(" · ")),
  );
  return head;
}

// What goes wrong between layers.
function inDepth(model) {
  const kinds = new Set(model.source.depth.map(({ kind }) => kind).filter((k) => k !== "healthy"));
  const words = { vanishing: "lost in depth" };
  return Array.from(kinds, (kind) => chip(kind, words[kind] ?? `${kind} in depth`));
}

// "→ reach 7 steps, ×0.37 per step back"
function rateOf({ side, verdict: { reached, fit } }) {
  const rate = fit && `×${format(Number(fit.rate))} per step back`;
  const words = [reached, rate].filter(Boolean).join(", ");
  return words && `${side} ${words}`.trim();
}

// A name that fits: the first of its characters.
function brief(text, most) {
  const characters = [...text];
  return characters.length > most ? `${characters.slice(0, most - 1).join("")}…` : text;
}

// The step between the two directions where both find the loss: a gap that the network fills.
function gapOf(model) {
  if (model.main.length !== 2) return -1;
  const [a, b] = model.main.map(lossStep).sort((x, y) => x - y);
  return b - a === 2 ? a + 1 : -1;
}

function lossStep(row) {
  if (row.source < 0) return -1;
  const j = row.layer.index.indexOf(row.source);
  return row.layer.steps[j];
}

// The column of the loss: behind the last step that it reads, or in the gap; -1 if it is nowhere.
function lossColumn(model) {
  const gap = gapOf(model);
  const ends = model.main.filter((row) => row.source >= 0);
  return gap >= 0
    ? gap
    : Math.max(...ends.map((row) => (row.layer.reverse ? -1 : lossStep(row) + 1)), -1);
}

const lossBefore = (model) => model.main.some((row) => row.layer.reverse && lossStep(row) === 0);

function drawLoss(track, svg) {
  const { model, lanes } = track;
  const gap = gapOf(model);
  const forth = lanes.find(({ row }) => model.main.includes(row) && !row.layer.reverse);
  const back = lanes.find(({ row }) => model.main.includes(row) && row.layer.reverse);
  const middle = (lane) => lane.y + nodeHeight() / 2;
  if (gap >= 0) {
    track.losses.push(
      lossAt(gap, track.inputsY ?? middle(forth), "The loss: what stands here is to be guessed"),
    );
  } else {
    const at = lossColumn(model);
    if (at >= 0 && forth) track.losses.push(lossAt(at, middle(forth), "The loss"));
    if (lossBefore(model)) track.losses.push(lossAt(-1, middle(back), "The loss"));
  }
  svg.append(...track.losses);
}

function lossAt(column, y, title) {
  const x = columnX(column) + pitch / 2;
  const r = Math.min(Math.max(pitch / 2 - 0.5, 6.5), 12);
  const letter = draw("text", { x, y: y + 3.5, "text-anchor": "middle" }, "L");
  return draw(
    "g",
    { class: "loss" },
    draw("title", {}, title),
    draw("circle", { cx: x, cy: y, r }),
    letter,
  );
}

function drawLegend() {
  const { low, high } = DATA.scale;
  const bar = make("canvas", { width: 200, height: 1, "aria-hidden": true });
  const context = bar.getContext("2d");
  for (let i = 0; i < 200; i += 1) {
    context.fillStyle = css(mixed(ramp().stops, i / 199));
    context.fillRect(i, 0, 1, 1);
  }
  const ends = [
    `≤ 10${superscript(low)}`,
    `10${superscript(Math.round((low + high) / 2))}`,
    `10${superscript(high)}`,
  ];
  const key = (name, text) => make("span", { class: "key" }, make("i", { class: name }), text);
  const broken = styled(make("i"), { background: ramp().broken });
  $("legend").replaceChildren(
    make(
      "span",
      { class: "scale" },
      bar,
      make("span", { class: "ticks" }, ...ends.map((e) => make("span", {}, e))),
    ),
    make("span", {}, "norm of the gradient, one log scale for all cells"),
    key("source", "the loss enters here"),
    key("none", "no gradient"),
    key("ahead", "not reached yet"),
    make("span", { class: "key" }, broken, "NaN, Inf"),
  );
}
