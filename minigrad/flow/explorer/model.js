// What is shown: the rows of the graph, how far the walk has come, and what is selected.
//
// A walk backwards has taken `k` steps when the gradient has reached the k entries nearest to the
// loss; entry j of a row has the lag `source - index[j]`. In a stack with a reverse layer, a lower
// level gets its gradient only when the level above is through: its lags count from there on.

const networks = DATA.networks;
const listeners = {};
const state = {
  moment: DATA.moments[DATA.moments.length - 1],
  phase: "backward",
  k: 0, // steps of BPTT taken: the page opens at the loss
  f: 0, // steps of the forward pass taken
  network: 0,
  pinned: null, // {path, name, j}, of the selected network
  hover: null,
  unit: 0,
  tensor: "", // "value:h", "gradient:h"
  textBy: "inputs",
  whole: true, // norms of the whole batch, or of the one sequence
  reading: DATA.summed ? "sum" : "judged", // of a loss read at many steps: the profile that was judged, or the "sum"
  zoom: "fit",
  alone: false,
  playing: false,
};

// kinds: "shape" (what is drawn), "time" (how far the walk is), "node", "unit"
function on(kinds, listener) {
  for (const kind of kinds.split(" ")) (listeners[kind] ??= []).push(listener);
}

function emit(kind) {
  for (const listener of listeners[kind] ?? []) listener();
}

const plural = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;

function momentOf(network, moment = state.moment) {
  return network.moments[moment] ?? Object.values(network.moments).at(-1);
}

const stem = (path) => path.slice(0, Math.max(path.lastIndexOf("/"), 0));
const mainState = (layer) => ("h" in layer.norms ? "h" : Object.keys(layer.norms)[0]);

function levelsOf(layers) {
  const levels = [];
  for (const layer of layers) {
    const top = levels.at(-1);
    const beside = top && top.length === 1 && layer.reverse && !top[0].reverse;
    if (beside && stem(top[0].path) === stem(layer.path)) top.push(layer);
    else levels.push([layer]);
  }
  return levels;
}

const models = new Map();

// {layers, levels, rows, main, inputs, depth, length, span}: a network at a moment. main: the rows
// of the cuts, which were judged; where nothing was, those of the highest layer.
function modelOf(network, moment = state.moment) {
  const source = momentOf(network, moment);
  if (!models.has(source)) models.set(source, buildModel(network, source));
  return models.get(source);
}

function buildModel(network, source) {
  const { layers } = source;
  const levels = levelsOf(layers);
  const apart = levels.length > 1 && layers.some((layer) => layer.reverse);
  const depths = levels.map((level) => Math.max(...level.map(deepest)));
  const lengths = levels.map((level) => Math.max(...level.map((layer) => layer.before + layer.count)));
  const rows = new Map();
  levels.forEach((level, i) => {
    const after = apart ? sum(depths.slice(i + 1)) : 0;
    const before = apart ? sum(lengths.slice(0, i)) : 0;
    for (const layer of level) {
      for (const name of Object.keys(layer.norms)) {
        const [behind, ahead] = [after + layer.after, before + layer.before];
        rows.set(layer.path + "\n" + name, rowOf(layer, name, behind, ahead));
      }
    }
  });
  const reached = levels.filter((level) => level.some((layer) => deepest(layer) > 0));
  const top = (reached.at(-1) ?? levels.at(-1)).map((layer) => rows.get(layer.path + "\n" + mainState(layer)));
  const sides = sidesOf(source.cuts);
  const cuts = source.cuts.map((cut, i) => cutRow(cut, sides[i], rows));
  const judged = new Map(cuts.map((row) => [row.key, row]));
  const main = cuts.length ? cuts : top;
  const timed = [...layers, ...cuts.map((row) => row.layer)];
  const steps = [...new Set(timed.flatMap((layer) => layer.steps))].sort((a, b) => a - b);
  return {
    network,
    source,
    layers,
    levels,
    rows: new Map([...judged, ...rows, ...judged]), // first what was judged
    main,
    steps,
    inputs: source.inputs && {
      whole: new Map(source.inputs.steps.map((t, i) => [t, Number(source.inputs.norms[i])])),
      one: new Map(source.inputs.steps.map((t, i) => [t, Number(source.inputs.one[i])])),
    },
    depth: Math.max(apart ? sum(depths) : 0, ...depths, ...cuts.map((row) => row.source + 1)),
    length: apart ? sum(lengths) : Math.max(...lengths, 0),
    span: steps.length ? steps.at(-1) + 1 : 0,
  };
}

const sum = (list) => list.reduce((a, b) => a + b, 0);
const deepest = (layer) => Math.max(...Object.values(layer.source)) + 1;

function rowOf(layer, name, after, before) {
  const source = layer.source[name];
  const norms = { whole: toNumbers(layer.norms[name]), one: toNumbers(layer.one[name]) };
  const alone = name in layer.alone ? toNumbers(layer.alone[name]) : null;
  return {
    layer,
    name,
    key: layer.path + "\n" + name,
    label: `${name} ${layer.reverse ? "←" : "→"}`,
    side: layer.reverse ? "←" : "",
    shares: [],
    source,
    verdict: layer.verdicts[name],
    norm: (j) => (alone && isJudged() && state.whole ? alone : norms[state.whole ? "whole" : "one"])[j],
    lag: (j) => source - layer.index[j],
    // the steps of the walk after which it is reached; never if no gradient comes here
    reach: (j) => (layer.index[j] <= source ? source - layer.index[j] + after + 1 : Infinity),
    passed: (j) => layer.index[j] + before + 1,
    entries: layer.index.length,
    of: new Map(layer.steps.map((t, j) => [t, j])),
  };
}

// The entry of step t, or the nearest one where steps were left out; undefined outside.
function entryAt(row, t) {
  const gap = Math.max(DATA.thinned.steps - 1, 0);
  for (let by = 0; by <= gap; by += 1) {
    const found = row.of.get(t - by) ?? row.of.get(t + by);
    if (found !== undefined) return found;
  }
  return undefined;
}

const walked = () => (printing ? STEPS_BACK : state.k); // on paper all of the way
const isReached = (row, j) =>
  state.phase === "forward" ? row.passed(j) <= state.f : row.reach(j) <= walked();

// The entry that the walk has just arrived at; -1 before it begins.
function frontOf(row) {
  let front = -1;
  let most = 0;
  for (let j = 0; j < row.entries; j += 1) {
    const at = state.phase === "forward" ? row.passed(j) : row.reach(j);
    const now = state.phase === "forward" ? state.f : state.k;
    if (at <= now && at > most) [front, most] = [j, at];
  }
  return front;
}

const everyModel = networks.flatMap((n) => DATA.moments.map((moment) => modelOf(n, moment)));
const STEPS_BACK = Math.max(...everyModel.map((model) => model.depth), 0);
const STEPS_FORTH = Math.max(...everyModel.map((model) => model.length), 0);
const LAST = Math.max(...everyModel.map((model) => model.span), 1); // time steps in the picture

const selected = () => modelOf(networks[state.network]);
const shown = () =>
  networks.map((n, i) => [modelOf(n), i]).filter(([, i]) => !state.alone || i === state.network);

// The node to tell about: hovered, pinned, or where the walk is.
function current() {
  const wanted = state.hover ?? state.pinned;
  const model = wanted ? modelOf(networks[wanted.network]) : selected();
  const row = (wanted && model.rows.get(wanted.key)) ?? model.main[0];
  if (wanted && wanted.j < row.entries) return { model, row, j: wanted.j };
  const front = frontOf(row);
  return { model, row, j: front >= 0 ? front : entryOfLoss(row) };
}

// The entry where the loss enters; of a row that it does not reach, the last one.
function entryOfLoss(row) {
  const j = row.layer.index.indexOf(row.source);
  return j >= 0 ? j : row.entries - 1;
}

// The layers whose units are shown: those beside the pinned node, else the last ones.
function shownLayers() {
  const model = selected();
  const layer = state.pinned && model.rows.get(state.pinned.key)?.layer;
  return model.levels.find((level) => level.includes(layer)) ?? model.levels.at(-1);
}

const manySteps = everyModel.some((model) => model.source.cuts.some((cut) => cut.many));

function select(i) {
  if (i === state.network) return;
  state.network = i;
  state.pinned = state.hover = null;
  emit("shape");
}
