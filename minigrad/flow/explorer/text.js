// The text that the network read: each character coloured by |dL/dx_t|, or by one unit.

let characters = []; // {element, t}

// A unit that is chosen, anywhere on the page, is the one that colours the text.
function chooseUnit(unit, tensor = state.tensor) {
  Object.assign(state, { unit, tensor, textBy: "unit" });
  $("text-by").value = tensor;
  emit("unit");
}

function tensorsOf() {
  const [layer] = shownLayers();
  const options = [];
  for (const name of Object.keys(layer.values)) options.push([`value:${name}`, `${name}, value`]);
  for (const name of Object.keys(layer.gradients))
    options.push([`gradient:${name}`, `dL/d${name}, gradient`]);
  return options;
}

function gridOf(layer, tensor) {
  const [what, name] = splitOnce(tensor);
  const packed = (what === "gradient" ? layer.gradients : layer.values)[name];
  return packed ? unpack(packed) : null;
}

function splitOnce(tensor) {
  const at = tensor.indexOf(":");
  return [tensor.slice(0, at), tensor.slice(at + 1)];
}

function drawText() {
  const model = selected();
  const { text } = model.network;
  $("text-card").hidden = Object.keys(text).length === 0;
  const units = tensorsOf();
  const options = [];
  if (model.inputs) options.push(["inputs", "the gradient of each character, |dL/dx|"]);
  if (!options.length) options.push(["none", units.length ? "nothing" : "nothing that is known"]);
  options.push(...units.map(([value, label]) => [value, `one unit of ${label}`]));
  const wanted = state.textBy === "unit" ? state.tensor : state.textBy;
  const found = fillSelect($("text-by"), options, wanted);
  state.textBy = found.includes(":") ? "unit" : found;
  const gap = gapOf(model);
  const steps = Object.keys(text)
    .map(Number)
    .sort((a, b) => a - b);
  characters = steps.map((t) => {
    const element = make(
      "span",
      { class: t === gap ? "gap" : "" },
      t === gap ? "L" : plainly(text[t]),
    );
    element.t = t;
    return { element, t, look: "" };
  });
  $("text").replaceChildren(...characters.map((c) => c.element));
  paintText();
}

// Line breaks are shown and taken; other invisible characters by their symbols.
const plainly = (text) => (text === " " ? text : text === "\n" ? "⏎\n" : visible(text));

function paintText() {
  const model = selected();
  if ($("text-card").hidden) return;
  const byUnit = state.textBy === "unit";
  if (byUnit && $("text-by").value !== state.tensor) $("text-by").value = state.tensor;
  $("text-unit-label").hidden = !byUnit;
  const color = byUnit ? unitColor(model) : inputColor(model);
  const here = current();
  const now = here.model === model ? here.row.layer.steps[here.j] : -1;
  for (const character of characters) {
    const { element, t } = character;
    const { fill, line } = color(t);
    element.classList.toggle("here", t === now);
    const look = `${fill}|${line}`;
    if (character.look === look) continue;
    character.look = look;
    styled(element, {
      "background-color": fill ? css(fill) : "",
      color: fill ? inkOn(fill) : "",
      "box-shadow": line ? `inset 0 -3px ${css(line)}` : "",
    });
  }
  $("text-hint").textContent = plain(textHint(model));
}

// {fill} where the walk has been, {line} where it is still to go.
function inputColor(model) {
  return (t) => {
    const norm = inputNorm(model, t);
    if (state.textBy !== "inputs" || state.phase === "forward") return {};
    if (norm === null || norm === 0) return {};
    return { [inputReached(model, t) ? "fill" : "line"]: gradientRgb(norm) };
  };
}

function unitColor(model) {
  const [layer] = shownLayers();
  const grid = gridOf(layer, state.tensor);
  if (!grid) return () => ({});
  const unit = Math.min(state.unit, grid.n - 1);
  const row = model.rows.get(layer.path + "\n" + mainState(layer));
  const limit = unitLimit(grid, unit, row.entries);
  return (t) =>
    entryAt(row, t) === undefined ? {} : { fill: valueRgb(grid.at(entryAt(row, t), unit), limit) };
}

function unitLimit(grid, unit, entries) {
  return peak(Array.from({ length: entries }, (_, j) => grid.at(j, unit)));
}

function textHint(model) {
  const whose = `${model.network.name}, the sequence that is shown unit by unit.`;
  const here = `${whose} Click a character to pin its step.`;
  if (state.textBy === "inputs") {
    return `How much a small change of each character would change the loss. ${here}`;
  }
  if (state.textBy === "none") return here;
  const [layer] = shownLayers();
  const grid = gridOf(layer, state.tensor);
  const unit = grid ? grid.name(Math.min(state.unit, grid.n - 1)) : 1;
  const place = layer.path ? ` in ${layer.path}` : "";
  const rule = "blue is negative, orange positive.";
  return `Unit ${unit} of ${tensorName(state.tensor)}${place}: ${rule} ${here}`;
}

function tensorName(tensor) {
  const [what, name] = splitOnce(tensor);
  return what === "gradient" ? `dL/d${name}` : name;
}

function pinStep(t) {
  const model = selected();
  const rows = model.main.filter((row) => entryAt(row, t) !== undefined);
  const row = rows.find((r) => r.reach(entryAt(r, t)) < Infinity) ?? rows[0];
  if (!row) return;
  state.pinned = { network: state.network, key: row.key, j: entryAt(row, t) };
  emit("node");
}

function startText() {
  on("shape", drawText);
  on("time node unit", paintText);
  $("text-by").addEventListener("change", (event) => {
    const { value } = event.target;
    if (!value.includes(":")) {
      state.textBy = value;
      paintText();
    } else chooseUnit(state.unit, value);
  });
  $("text").addEventListener("click", (event) => {
    const element = event.target.closest("span");
    if (element?.t !== undefined) pinStep(element.t);
  });
}
