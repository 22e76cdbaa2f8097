// The columns of the unrolled graph: a node for each state of a step, and what it reads.
//
// Of a long sequence only the columns in sight have nodes, with a screen more on either side; where
// a column is narrower than THIN pixels, one node stands for several steps, and shows the nearest
// to the loss.

const MOST_COLUMNS = 480; // as many are drawn all at once
const THIN = 2;
let drawn = null; // [from, to]: the steps whose columns have nodes

// How many entries a node stands for; where steps were left out, their room is there already.
const perNode = () => Math.max(1, Math.ceil(THIN / (pitch * DATA.thinned.steps)));

// The steps that are to have nodes, or null if all of those in sight have them.
function wantedColumns() {
  const columns = LAST + 1;
  if (printing || columns / perNode() <= MOST_COLUMNS) return drawn ? null : [-1, columns];
  const box = $("graph");
  const count = Math.ceil(box.clientWidth / pitch) + 1;
  const first = Math.floor((box.scrollLeft - MARGIN) / pitch) - lead;
  // a column more, so that the arrow keys find a node beyond the edge
  const [from, to] = [Math.max(first - 1, 0), Math.min(first + count + 1, LAST - 1)];
  return drawn && drawn[0] <= from && to <= drawn[1] ? null : [first - count, first + 2 * count];
}

// Returns whether there are nodes that were not there before, and wait for their colours.
function drawColumns() {
  const wanted = wantedColumns();
  if (!wanted) return false;
  drawn = wanted;
  const kept = roving && { key: roving.row.key, j: roving.j, network: roving.network };
  const focused = Boolean(document.activeElement?.closest?.("#graph .node"));
  nodes = [];
  for (const track of tracks) {
    track.inputs = [];
    track.lanes.forEach((lane, i) => {
      lane.group.replaceChildren();
      lane.links?.replaceChildren();
      if (lane.inputs) drawInputs(track, lane);
      else drawRow(track, lane, track.lanes[i + 1]);
    });
  }
  const same = (n) => n.row.key === kept.key && n.j === kept.j && n.network === kept.network;
  const found = kept && nodes.find(same);
  roving = null;
  rove(found ?? nodes[0] ?? null, false);
  // What had the focus may have gone out of sight: then the graph has it, and stays where it is.
  if (focused) (found?.element ?? $("graph")).focus({ preventScroll: true });
  return true;
}

const isDrawn = (t) => drawn[0] <= t && t <= drawn[1];

function drawRow(track, lane, below) {
  const { row, y } = lane;
  const each = perNode();
  const between = pitch >= 24 ? 10 : pitch >= 5 ? 2 : 0; // else stripes without outlines
  const steps = each > 1 ? each * DATA.thinned.steps : 1;
  const [w, h] = [steps * pitch - between, nodeHeight()];
  const links = pitch >= 24 && below?.row?.layer === row.layer;
  for (let j = 0; j < row.entries; j += 1) {
    const t = row.layer.steps[j];
    if (!isDrawn(t) || (entryOfLoss(row) - j) % each !== 0) continue;
    const left = row.layer.reverse ? t : t - steps + 1; // the steps behind it are farther back
    const x = columnX(left) + (steps * pitch - w) / 2;
    const element = draw("g", { class: "node", role: "button", tabindex: -1 });
    const box = draw("rect", { x, y, width: w, height: h, rx: Math.min(6, w / 3) });
    element.append(box);
    const node = { element, box, row, j, t, model: track.model, network: track.network, lit: null };
    if (pitch >= 46) {
      const place = { x: x + w / 2, "text-anchor": "middle" };
      const name = brief(row.name, 4) + subscript(t + 1);
      node.name = draw("text", { ...place, y: y + h / 2 - 3 }, name);
      node.numeral = draw("text", { ...place, y: y + h / 2 + 11 });
      element.append(node.name, node.numeral);
    }
    element.node = node;
    lane.group.append(element);
    nodes.push(node);
    if (links) {
      const at = columnX(t) + pitch / 2;
      lane.links.append(draw("line", { x1: at, x2: at, y1: y + h, y2: below.y }));
    }
  }
}

function drawInputs(track, lane) {
  const { model } = track;
  const h = nodeHeight();
  const gap = gapOf(model);
  const each = perNode();
  for (const [i, t] of model.steps.entries()) {
    const text = model.network.text[t];
    if (t === gap || !isDrawn(t) || i % each !== 0) continue;
    const element = draw("g", { class: "input" });
    const x = columnX(t) + pitch / 2;
    const wideBox = Math.min(each > 1 ? each * DATA.thinned.steps * pitch : pitch, 26);
    element.append(
      draw("rect", {
        x: x - wideBox / 2,
        y: lane.y,
        width: wideBox,
        height: h,
        rx: pitch >= 24 ? 6 : 0,
      }),
    );
    const wide = text === undefined ? `x${subscript(t + 1)}` : text === " " ? "·" : visible(text);
    if (pitch >= 46 || (pitch >= 9 && text !== undefined && [...wide].length === 1)) {
      const look = { x, y: lane.y + h / 2 + 4, "text-anchor": "middle" };
      element.append(draw("text", look, brief(wide, 6)));
    }
    lane.group.append(element);
    track.inputs.push({ element, t, lit: null });
  }
}
