// Everything that the pictures show of the selected network, as a table; built when it is opened.

function drawTable() {
  if (!$("numbers").open) return;
  const model = selected();
  const { text } = model.network;
  const rows = [...model.rows.values()];
  const level = (row) => (model.layers.length > 1 ? `${row.layer.path} ` : "");
  const heads = ["step", ...rows.map((row) => `${level(row)}|dL/d${row.name}|`)];
  const withText = hasText(model);
  if (model.inputs) heads.push(inputName(model));
  if (withText) heads.push("x");
  const body = make("tbody");
  for (const t of model.steps) {
    const cells = rows.map((row) => (row.of.has(t) ? format(row.norm(row.of.get(t)), 3) : ""));
    if (model.inputs)
      cells.push(inputNorm(model, t) === null ? "" : format(inputNorm(model, t), 3));
    if (withText) cells.push(text[t] === undefined ? "" : visible(text[t]));
    body.append(
      make(
        "tr",
        {},
        make("th", { scope: "row" }, String(t + 1)),
        ...cells.map((c) => make("td", {}, make("bdi", {}, c))),
      ),
    );
  }
  const of = state.whole ? wholeName() : oneName();
  const when = state.moment ? `, ${state.moment}` : "";
  $("table").replaceChildren(
    make(
      "table",
      {},
      make(
        "caption",
        {},
        `${model.network.name}${when}: norms of the gradient (${of}), step by step`,
      ),
      make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
      body,
    ),
  );
}

const batchOf = () =>
  Math.max(...everyModel.flatMap((model) => model.layers.map((layer) => layer.batch)), 1);
const wholeName = () => `all ${plural(batchOf(), "sequence")}`;
const sequenceName = () => `sequence ${DATA.sample + 1}`;
const oneName = () => `${sequenceName()} alone`;

function startTable() {
  on("shape", drawTable);
  $("numbers").addEventListener("toggle", drawTable);
}
