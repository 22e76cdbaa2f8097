// Nodes under the mouse, a finger or the keys: one is hovered, one is pinned, Tab reaches one.

function rove(node, focus) {
  roving?.element.setAttribute("tabindex", -1);
  roving = node;
  roving?.element.setAttribute("tabindex", 0);
  if (focus) roving?.element.focus({ preventScroll: false });
}

const placeOf = (node) => ({ network: node.network, key: node.row.key, j: node.j });

function pin(node) {
  state.pinned = isPinned(node) ? null : placeOf(node);
  if (state.pinned && state.network !== node.network) {
    state.network = node.network;
    emit("shape");
  } else {
    emit("node");
  }
}

function nodeKey(event) {
  const node = event.target.closest?.(".node")?.node;
  if (!node) return;
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (event.key === "Enter" || event.key === " ") pin(node);
  else if (event.key in moves) {
    const [dt, dy] = moves[event.key];
    const next = dy ? neighbourRow(node, dy) : nextStep(node, dt);
    if (next) rove(next, true);
  } else return;
  event.preventDefault();
  event.stopPropagation();
}

function nextStep(node, by) {
  const steps = node.row.layer.reverse ? -by : by;
  return nodes.find((n) => n.row === node.row && n.j === node.j + steps);
}

function neighbourRow(node, by) {
  const order = [];
  for (const track of tracks) for (const lane of track.lanes) if (lane.row) order.push(lane.row);
  const row = order[order.indexOf(node.row) + by];
  if (!row) return null;
  const same = nodes.filter((n) => n.row === row);
  return same.reduce((a, b) => (Math.abs(b.t - node.t) < Math.abs(a.t - node.t) ? b : a));
}

function hover(node) {
  const place = node && placeOf(node);
  if (JSON.stringify(place) === JSON.stringify(state.hover)) return;
  state.hover = place;
  emit("node");
}

function startGraph() {
  const box = $("graph");
  const nodeOf = (event) => event.target.closest?.(".node")?.node ?? null;
  box.addEventListener(
    "pointerover",
    (event) => event.pointerType === "mouse" && hover(nodeOf(event)),
  );
  box.addEventListener("pointerleave", () => hover(null));
  box.addEventListener("focusin", (event) => {
    const node = nodeOf(event);
    if (node) {
      rove(node, false);
      if (node.element.matches(":focus-visible")) hover(node);
    }
  });
  box.addEventListener("focusout", () => hover(null));
  box.addEventListener("click", (event) => {
    const node = nodeOf(event);
    if (node) pin(node);
  });
  box.addEventListener("keydown", nodeKey);
  on("shape", drawGraph);
  on("shape time", walkGraph);
  on("node", paintGraph);
  box.addEventListener("scroll", () => {
    if (drawColumns()) paintGraph();
  });
  let width = 0;
  new ResizeObserver(() => {
    if (box.clientWidth === width) return;
    width = box.clientWidth;
    drawGraph();
    walkGraph();
  }).observe(box);
}
