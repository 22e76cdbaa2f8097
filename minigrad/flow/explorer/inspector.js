// One step, looked at closely: norms, gates and the unit vector of the gradient, unit by unit.

function drawInspector() {
  const { model, row, j } = current();
  const { layer } = row;
  const t = layer.steps[j];
  const text = model.network.text[t];
  const pinned = state.pinned !== null && state.hover === null;
  const from = state.hover ? "hovered" : pinned ? "pinned" : "where the walk is";
  const title = make("p", { class: "node-name" });
  title.append(
    make("strong", {}, `${model.network.name} `),
    make("span", { class: "symbol" }, row.name, make("sub", {}, String(t + 1))),
    make("span", { class: "muted" }, ` step ${t + 1} of ${layer.count}, ${from}`),
  );
  if (text !== undefined) {
    title.append(
      make("span", { class: "muted" }, " · x is "),
      make("bdi", { class: "character" }, visible(text)),
    );
  }
  const shown = row.cut && !row.only ? carriedStrips(row, j) : strips(row, j);
  $("node").replaceChildren(title, facts(model, row, j), ...shown);
  $("unpin").hidden = state.pinned === null;
}

function facts(model, row, j) {
  const { layer } = row;
  const list = make("dl", { class: "facts" });
  const fact = (name, value, more = "") =>
    list.append(
      make("div", {}, make("dt", {}, name), make("dd", {}, value, make("small", {}, more))),
    );
  const isCut = row.cut && !row.only;
  const here = Object.keys(layer.norms).map((name) => model.rows.get(`${layer.path}\n${name}`));
  for (const own of isCut ? [row] : here) {
    const norm = own.norm(j);
    const reached = own.reach(j) <= walked() || own.reach(j) === Infinity;
    const swatch = styled(make("i", { class: "dot", "aria-hidden": true }), {
      background: css(gradientRgb(norm)),
    });
    const value = make("span", {}, swatch, format(norm, 3));
    fact(`|dL/d${own.name}|`, value, reached ? factor(own, j) : "the walk is not here yet");
  }
  row.shares.forEach((share, i) => {
    if (isCut && isJudged() && Number.isFinite(share[j]))
      fact(`by ${pathName(model, row, i)}`, percent(share[j]), "of |dL/dS|²");
  });
  const input = inputNorm(model, layer.steps[j]);
  if (input !== null && model.levels[0].includes(layer)) fact(inputName(model), format(input, 3));
  const lag = row.lag(j);
  if (lag >= 0) fact("from the loss", plural(lag, "step"));
  return list;
}

// What one step of BPTT multiplied the norm by, to get here.
function factor(row, j) {
  if (j + 1 >= row.entries || row.lag(j + 1) < 0) return row.lag(j) === 0 ? "enters here" : "";
  const ratio = row.norm(j) / row.norm(j + 1);
  const steps = row.layer.index[j + 1] - row.layer.index[j];
  return Number.isFinite(ratio) ? `×${format(ratio)} in ${plural(steps, "step")}` : "";
}

function gradientStrip(packed, j, name, label) {
  const grid = unpack(packed);
  const { row, scale } = scaledDown(grid.row(j));
  const norm = Math.hypot(...row);
  const unit = Array.from(row, (x) => (norm > 0 && norm < Infinity ? x / norm : x));
  return strip({
    label: `${label}${manySteps ? " of the whole loss" : ""}, its direction`,
    values: unit,
    limit: peak(unit),
    grid,
    tensor: `gradient:${name}`,
    raw: (u) => row[u] * scale,
    bars: true,
  });
}

// Of a cut: all of its layer at the same step; of several layers the gradients of their states.
function carriedStrips({ cut, layer, parts }, j) {
  const there = cut.joined ? [] : parts.filter(({ of }) => of.has(layer.steps[j]));
  const at = ({ of }) => of.get(layer.steps[j]);
  if (there.length && there.every((part) => part.layer === there[0].layer))
    return strips(there[0], at(there[0]));
  return there
    .filter((part) => part.name in part.layer.gradients)
    .map((part) => {
      const label = `${part.layer.path} dL/d${part.name}`;
      return gradientStrip(part.layer.gradients[part.name], at(part), part.name, label);
    });
}

function strips({ layer }, j) {
  const found = Object.entries(layer.gradients).map(([name, packed]) =>
    gradientStrip(packed, j, name, `dL/d${name}`),
  );
  for (const [name, packed] of Object.entries(layer.values)) {
    const grid = unpack(packed);
    const values = Array.from(grid.row(j));
    const limit = Math.max(Math.abs(grid.least), Math.abs(grid.most));
    const means = layer.means[name];
    const mean = means ? Number(means.mean[j]) : NaN;
    const flat = means?.saturation ? Number(means.saturation[j]) : NaN;
    const aside = [];
    if (Number.isFinite(mean)) aside.push(`mean ${format(mean)}`);
    if (means?.steps) aside.push(`keeps for ${format(Number(means.steps[j]))} steps`);
    if (Number.isFinite(flat)) aside.push(`${Math.round(flat * 100)} % saturated`);
    found.push(
      strip({
        label: name,
        values,
        limit,
        grid,
        tensor: `value:${name}`,
        raw: (u) => values[u],
        aside: aside.join(", "),
      }),
    );
  }
  if (!Object.keys(layer.values).length) found.push(...meansOnly(layer, j));
  return found;
}

// So that squares of 1e-200 do not underflow.
function scaledDown(values) {
  const scale = peak(values) || 1;
  return { row: Array.from(values, (x) => x / scale), scale };
}

const peak = (values) =>
  Array.from(values).reduce((a, x) => (Number.isFinite(x) ? Math.max(a, Math.abs(x)) : a), 0);

function meansOnly(layer, j) {
  const list = make("dl", { class: "facts" });
  for (const [name, { mean }] of Object.entries(layer.means)) {
    list.append(
      make("div", {}, make("dt", {}, `${name}, mean`), make("dd", {}, format(Number(mean[j])))),
    );
  }
  return [list];
}

function strip({ label, values, limit, grid, tensor, raw, aside = "", bars = false }) {
  const canvas = make("canvas", { role: "img" });
  const bad = values.filter((x) => !Number.isFinite(x)).length;
  const size = plural(grid.of, "unit");
  canvas.setAttribute(
    "aria-label",
    `${label}: ${size}, from ${format(Math.min(...values))} to ${format(Math.max(...values))}` +
      (bad ? `, ${bad} NaN or Inf` : ""),
  );
  if (bars) paintBars(canvas, values, limit);
  else paintCells(canvas, values, limit);
  const unit = Math.min(state.unit, values.length - 1);
  const readout = make("span", { class: "readout" }, unitText(grid, unit, raw(unit)));
  const mark = styled(make("span", { class: "mark", "aria-hidden": true }), {
    left: `${((unit + 0.5) / values.length) * 100}%`,
  });
  const box = make("div", { class: "strip-box" }, canvas, mark);
  const unitAt = (event) => {
    const { left, width } = canvas.getBoundingClientRect();
    return Math.min(
      Math.max(Math.floor(((event.clientX - left) / width) * values.length), 0),
      values.length - 1,
    );
  };
  box.addEventListener("pointermove", (event) => {
    const u = unitAt(event);
    readout.textContent = unitText(grid, u, raw(u));
  });
  box.addEventListener("pointerleave", () => {
    readout.textContent = unitText(grid, unit, raw(unit));
  });
  box.addEventListener("click", (event) => {
    chooseUnit(unitAt(event), tensor);
  });
  const head = make(
    "div",
    { class: "strip-head" },
    make("b", {}, label),
    make("span", { class: "muted" }, aside),
    readout,
  );
  return make("div", { class: "strip" }, head, box);
}

const unitText = (grid, u, x) => `unit ${grid.name(u)}: ${format(x, 3)}`;

function paintCells(canvas, values, limit) {
  Object.assign(canvas, { width: values.length, height: 1, className: "cells" });
  const context = canvas.getContext("2d");
  values.forEach((x, i) => {
    context.fillStyle = css(valueRgb(x, limit));
    context.fillRect(i, 0, 1, 1);
  });
}

// Up is positive: height and colour say the same, so it needs no colour to be read.
function paintBars(canvas, values, limit) {
  const [step, half] = [Math.max(Math.floor(1024 / values.length), 1), 44];
  Object.assign(canvas, { width: step * values.length, height: 2 * half, className: "bars" });
  const context = canvas.getContext("2d");
  const gap = step >= 4 ? 2 : 0;
  values.forEach((x, i) => {
    context.fillStyle = css(valueRgb(x < 0 ? -limit : Number.isFinite(x) ? limit : x, limit));
    const height = Number.isFinite(x) ? (Math.abs(x) / (limit || 1)) * (half - 3) : 2 * half;
    const top = Number.isFinite(x) ? (x < 0 ? half : half - height) : 0;
    context.fillRect(i * step + gap / 2, top, step - gap, Math.max(height, 1));
  });
}

function startInspector() {
  on("shape time node unit", drawInspector);
  $("unpin").addEventListener("click", () => {
    state.pinned = null;
    emit("node");
    $("graph").focus({ preventScroll: true });
  });
}
