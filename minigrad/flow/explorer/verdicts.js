// What is said of the selected network: of each cut first, then of every layer by itself.

function drawVerdicts() {
  const model = selected();
  const said = new Set(); // the two directions of a layer often want the same
  const [lost, kept] = [true, false].map((bad) =>
    model.source.depth.filter(({ kind }) => (kind !== "healthy") === bad),
  );
  $("verdicts").replaceChildren(
    ...model.main.flatMap((row) => cutWords(model, row, said)),
    ...lost.map(({ kind, reason }) => verdictLine("In depth", kind, reason)),
  );
  const fits = isJudged() ? model.main.filter((row) => row.verdict.fit) : [];
  $("beneath").replaceChildren(
    ...fits.map((row) => make("p", { class: "muted fit-line" }, fitText(row))),
    make("p", { class: "muted fit-line" }, NOW),
    ...kept.map(({ reason }) => make("p", { class: "muted fit-line" }, `In depth: ${reason}.`)),
    ...model.layers.flatMap(flaws),
    ownProfiles(model),
  );
}

const NOW =
  "A verdict is about the gradient of this pass: before training it does not say whether the net " +
  "will learn.";

function cutWords(model, row, said) {
  const { kind, reason, advice, carried } = row.verdict;
  const name = `${model.network.name} ${row.side}`.trim();
  const parts = [verdictLine(name, kind, reason)];
  if (carried)
    parts.push(make("p", { class: "advice" }, `${carried[0].toUpperCase()}${carried.slice(1)}.`));
  if (advice && !said.has(advice))
    parts.push(make("p", { class: "advice" }, make("b", {}, "Try: "), advice));
  said.add(advice);
  return parts;
}

const verdictLine = (name, kind, words) =>
  make("p", { class: "verdict-line" }, make("strong", {}, `${name} `), chip(kind), ` ${words}.`);

// The table beneath: what each state of each layer received, and what is wrong inside of it.
function ownProfiles(model) {
  const rows = [...model.rows.values()].filter((row) => !row.cut);
  const body = make("tbody");
  for (const row of rows) {
    const { kind, ratio, fit, steps } = row.verdict;
    const cells = [
      `${row.layer.path || "network"} ${row.name}`,
      format(Number(ratio)),
      fit ? `×${format(Number(fit.rate), 3)}` : "–",
      steps,
    ];
    const [head, ...numbers] = cells;
    body.append(
      make(
        "tr",
        {},
        make("th", { scope: "row" }, head),
        ...numbers.map((text) => make("td", {}, text)),
        make("td", {}, chip(kind)),
      ),
    );
  }
  const heads = ["state", "far / near", "per step", "reach", "verdict"];
  const table = make(
    "table",
    {},
    make("thead", {}, make("tr", {}, ...heads.map((h) => make("th", { scope: "col" }, h)))),
    body,
  );
  const own = make("details", { class: "own" }, make("summary", {}, "Each layer by itself"));
  own.open = ownOpen;
  own.addEventListener("toggle", () => {
    ownOpen = own.open;
  });
  own.append(
    make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Layers" }, table),
  );
  return own;
}

let ownOpen = false;

// Dead units, NaN and Inf: only where there are any.
function flaws({ path, dead, nonfinite }) {
  const lines = [];
  for (const [name, count] of Object.entries(dead))
    lines.push(`${plural(count, "unit")} of ${name} ${count === 1 ? "does" : "do"} nothing.`);
  for (const [name, [values, norms]] of Object.entries(nonfinite))
    lines.push(`${name}: NaN or Inf in ${plural(values, "value")} and ${plural(norms, "norm")}.`);
  return lines.map((line) => make("p", { class: "advice" }, path ? `${path}: ${line}` : line));
}

function fitText({ side, verdict: { fit } }) {
  const [rate, low, high] = [fit.rate, fit.low, fit.high].map((x) => format(Number(x), 3));
  const what = `Dashed${side ? ` ${side}` : ""}: the fit through ${plural(fit.points, "step")}`;
  return `${what}, ×${rate} per step back (95 %: ${low} to ${high}), r² ${format(Number(fit.r2))}.`;
}

function startVerdicts() {
  on("shape", drawVerdicts);
}
