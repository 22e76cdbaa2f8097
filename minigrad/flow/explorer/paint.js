// How far the walk has come: colours of nodes, inputs and losses.

function walkGraph() {
  follow();
  drawColumns();
  paintGraph();
}

function paintGraph() {
  const fronts = new Map();
  for (const { model } of tracks) {
    for (const row of model.rows.values()) fronts.set(row, frontOf(row));
  }
  const moving = state.phase === "forward" ? state.f < STEPS_FORTH : state.k < STEPS_BACK;
  const each = perNode();
  const isFront = ({ row, j }) => {
    const front = fronts.get(row);
    return front >= 0 && front <= j && j < front + each;
  };
  for (const node of nodes) paintNode(node, moving && isFront(node));
  for (const track of tracks) {
    for (const input of track.inputs) paintInput(track.model, input);
    const waits = state.phase === "backward" && state.k === 0;
    for (const loss of track.losses) loss.classList.toggle("pulse", waits);
  }
}

function paintNode(node, front) {
  const lit = isReached(node.row, node.j);
  const norm = node.row.norm(node.j);
  const look = !lit ? "unlit" : state.phase === "forward" ? "forward" : norm === 0 ? "none" : "lit";
  const never = state.phase === "backward" && node.row.reach(node.j) === Infinity;
  const pinned = isPinned(node);
  const source =
    node.row.source === node.row.layer.index[node.j] && node.model.main.includes(node.row);
  const sign = [look, never, front, pinned, source, norm].join();
  if (node.lit === sign) return;
  node.lit = sign;
  const marks = { front, pinned, source };
  const set = Object.keys(marks).filter((name) => marks[name]);
  node.element.setAttribute("class", ["node", never ? "none" : look, ...set].join(" "));
  const color = look === "lit" && !never ? gradientRgb(norm) : null;
  // what is ahead of the walk has its colour as an outline
  const ahead = look === "unlit" && !never && state.phase === "backward" && norm !== 0;
  styled(node.box, {
    fill: color ? css(color) : "",
    "--ahead": ahead ? css(gradientRgb(norm)) : "",
  });
  if (node.numeral) {
    node.numeral.textContent =
      look === "lit" || look === "none" ? (lit || never ? format(norm) : "") : "";
    if (never && state.phase === "backward") node.numeral.textContent = "0";
    for (const text of [node.name, node.numeral]) styled(text, { fill: color ? inkOn(color) : "" });
  }
  node.element.setAttribute("aria-pressed", String(pinned));
  node.element.setAttribute("aria-label", nodeLabel(node, lit || never));
}

function nodeLabel(node, lit) {
  const step = `step ${node.t + 1} of ${node.row.layer.count}`;
  const where = `${node.model.network.name} ${node.row.label}, ${step}`;
  const what = lit ? `|dL/d${node.row.name}| ${format(node.row.norm(node.j))}` : "not reached yet";
  return `${where}: ${state.phase === "forward" ? (lit ? "computed" : what) : what}`;
}

const isPinned = (node) =>
  state.pinned !== null &&
  state.pinned.network === node.network &&
  state.pinned.key === node.row.key &&
  state.pinned.j === node.j;

// |dL/dx_t| is known when the gradient has come to all rows that read x_t.
function inputReached(model, t) {
  const rows = model.levels[0].map((layer) => model.rows.get(layer.path + "\n" + mainState(layer)));
  const at = rows
    .map((row) => (entryAt(row, t) === undefined ? Infinity : row.reach(entryAt(row, t))))
    .filter(Number.isFinite);
  return at.length > 0 && Math.max(...at) <= walked();
}

// Characters are those of one sequence, so the gradient that colours them is that sequence's too.
const texts = new Map(networks.map((network) => [network, Object.keys(network.text).length > 0]));
const hasText = (model) => texts.get(model.network);

function inputNorm(model, t) {
  return model.inputs?.[state.whole && !hasText(model) ? "whole" : "one"].get(t) ?? null;
}

const inputName = (model) =>
  state.whole && hasText(model) && batchOf() > 1 ? `|dL/dx| of ${sequenceName()}` : "|dL/dx|";

function paintInput(model, input) {
  const norm = inputNorm(model, input.t);
  const lit =
    state.phase === "backward" && norm !== null && norm !== 0 && inputReached(model, input.t);
  const sign = `${lit}${norm}`;
  if (input.lit === sign) return;
  input.lit = sign;
  input.element.setAttribute("class", lit ? "input lit" : "input");
  const color = lit ? gradientRgb(norm) : null;
  const [box, text] = input.element.children;
  styled(box, { fill: color ? css(color) : "" });
  if (text) styled(text, { fill: color ? inkOn(color) : "" });
}


// Keeps the place that the selected network's walk has come to in sight.
function follow() {
  const box = $("graph");
  const model = selected();
  const row = model.main[0];
  const front = frontOf(row);
  const t = front >= 0 ? row.layer.steps[front] : lossStep(row) + 1;
  const x = columnX(t);
  const room = box.clientWidth - labelWidth();
  if (box.scrollWidth <= box.clientWidth || state.hover) return;
  const margin = box.scrollLeft > 0 ? 0.15 * room : 0;
  const seen = x >= box.scrollLeft + margin && x + pitch <= box.scrollLeft + room;
  // Two directions move away from the loss to both sides; one leaves what is behind it in sight.
  const place = model.main.length > 1 ? 0.5 : state.phase === "forward" ? 0.2 : 0.8;
  if (!seen) box.scrollLeft = x - room * place;
}
