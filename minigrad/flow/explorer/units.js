// Units through time: a heat map, a row for each unit; the marked one colours the text.

const CELL_HEIGHT = 5;
let cursor = null;
let drawnLayers = null;

function drawUnits() {
  const model = selected();
  const layers = shownLayers();
  drawnLayers = layers;
  const options = tensorsOf();
  $("units-card").hidden = options.length === 0;
  if (!options.length) return;
  const fallback =
    options.find(([value]) => value === `value:${mainState(layers[0])}`) ?? options[0];
  const kept = options.some(([value]) => value === state.tensor);
  state.tensor = fillSelect($("tensor"), options, kept ? state.tensor : fallback[0]);
  const rows = layers.map((layer) => model.rows.get(layer.path + "\n" + mainState(layer)));
  const boxes = rows.map((row) => unitMap(model, row)).filter(Boolean);
  $("units").replaceChildren(...boxes);
  paintUnits();
}

function unitMap(model, row) {
  const grid = gridOf(row.layer, state.tensor);
  if (!grid) return null;
  const columns = [...row.of.keys()].sort((a, b) => a - b);
  const canvas = make("canvas", { width: columns.length, height: grid.n, role: "img" });
  const name = `${model.network.name} ${row.layer.path}`;
  canvas.setAttribute(
    "aria-label",
    `${tensorName(state.tensor)}: ${plural(grid.n, "unit")} by ${plural(columns.length, "step")}`,
  );
  paintMap(canvas, row, grid, columns);
  const marks = [make("span", { class: "mark row" }), make("span", { class: "mark column" })];
  const box = styled(make("div", { class: "map" }, canvas, ...marks), {
    height: `${Math.min(Math.max(grid.n * CELL_HEIGHT, 24), 420)}px`,
    "min-width": `${columns.length * 4}px`,
  });
  Object.assign(box, { row, grid, columns });
  const place = (event) => {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    const x = Math.floor(((event.clientX - left) / width) * columns.length);
    const y = Math.floor(((event.clientY - top) / height) * grid.n);
    return [columns[clamp(x, columns.length)], clamp(y, grid.n)];
  };
  box.addEventListener("pointermove", (event) => {
    const [t, unit] = place(event);
    const value = format(grid.at(row.of.get(t), unit), 3);
    cursor = `step ${t + 1}, unit ${grid.name(unit)}: ${value}`;
    writeUnitsHint();
  });
  box.addEventListener("pointerleave", () => {
    cursor = null;
    writeUnitsHint();
  });
  box.addEventListener("click", (event) => {
    const [t, unit] = place(event);
    state.pinned = { network: state.network, key: row.key, j: row.of.get(t) };
    chooseUnit(unit);
    emit("node");
  });
  return make(
    "figure",
    {},
    make("figcaption", { class: "muted" }, `${name} ${row.layer.reverse ? "←" : "→"}`),
    box,
  );
}

const clamp = (x, n) => Math.min(Math.max(x, 0), n - 1);

// Values by one limit for all; a gradient by the peak of its step, since it decays by decades.
function paintMap(canvas, row, grid, columns) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns.length, grid.n);
  const gradient = state.tensor.startsWith("gradient:");
  const whole = Math.max(Math.abs(grid.least), Math.abs(grid.most));
  columns.forEach((t, x) => {
    const values = grid.row(row.of.get(t));
    const limit = gradient ? peak(values) : whole;
    values.forEach((value, y) => {
      const [r, g, b] = valueRgb(value, limit);
      image.data.set([r, g, b, 255], 4 * (y * columns.length + x));
    });
  });
  context.putImageData(image, 0, 0);
}

function paintUnits() {
  if (drawnLayers !== shownLayers()) return void drawUnits();
  if ($("units-card").hidden) return;
  const here = current();
  for (const box of $("units").querySelectorAll(".map")) {
    const { row, grid, columns } = box;
    const [across, down] = box.querySelectorAll(".mark");
    const unit = clamp(state.unit, grid.n);
    styled(across, { top: `${(unit / grid.n) * 100}%`, height: `${100 / grid.n}%` });
    const t =
      here.model === selected() && row.layer.path === here.row.layer.path
        ? here.row.layer.steps[here.j]
        : -1;
    const x = columns.indexOf(t);
    styled(down, { left: `${(x / columns.length) * 100}%`, width: `${100 / columns.length}%` });
    down.hidden = x < 0;
  }
  const grid = gridOf(shownLayers()[0], state.tensor);
  for (const input of document.querySelectorAll("input.unit")) {
    input.max = grid ? grid.n : 1;
    if (document.activeElement !== input) input.value = clamp(state.unit, grid ? grid.n : 1) + 1;
  }
  writeUnitsHint();
  unitsLegend(grid);
}

function writeUnitsHint() {
  const gradient = state.tensor.startsWith("gradient:");
  const rule = gradient
    ? "Each step by its own largest entry, since a gradient decays by decades."
    : "";
  $("units-hint").textContent =
    cursor ?? `A row is a unit, a column a step. ${rule} Click to choose both.`;
}

function unitsLegend(grid) {
  const gradient = state.tensor.startsWith("gradient:");
  const limit = gradient || !grid ? 1 : Math.max(Math.abs(grid.least), Math.abs(grid.most));
  const bar = make("canvas", { "aria-hidden": true });
  paintCells(
    bar,
    Array.from({ length: 101 }, (_, i) => i / 50 - 1),
    1,
  );
  const ends = gradient ? ["-peak", "0", "peak"] : [format(-limit), "0", format(limit)];
  const ticks = make("span", { class: "ticks" }, ...ends.map((end) => make("span", {}, end)));
  $("units-legend").replaceChildren(
    make("span", { class: "scale" }, bar, ticks),
    make("span", {}, tensorName(state.tensor)),
  );
}

function startUnits() {
  on("shape unit", drawUnits);
  on("time node", paintUnits);
  $("tensor").addEventListener("change", (event) => {
    state.tensor = event.target.value;
    emit("unit");
  });
  for (const input of document.querySelectorAll("input.unit")) {
    input.addEventListener("input", () => {
      const wanted = Math.round(Number(input.value));
      if (wanted >= 1) chooseUnit(Math.min(wanted, Number(input.max)) - 1);
    });
  }
}
