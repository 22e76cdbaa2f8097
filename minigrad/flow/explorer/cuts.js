// Cuts through time: the row of the graph that was judged, |dL/dS| of all that the states carry.
//
// A cut that is one state of one run is that state's own row, with the profile that was judged.

function isJudged() {
  return state.reading === "judged";
}

function cutRow(cut, side, rows) {
  const parts = cut.labels.map(([path, name]) => rows.get(`${path}\n${name}`)).filter(Boolean);
  const only = cut.labels.length === 1 && parts.length === 1 && !cut.joined;
  const base = only ? parts[0] : rowOf(cutLayer(cut), "S", 0, 0);
  const profiles = Object.fromEntries(
    ["profile", "summed", "one"].map((name) => [name, toNumbers(cut[name])]),
  );
  const at = new Map(cut.lags.map((lag, i) => [lag, i]));
  const entries = Array.from({ length: base.entries }, (_, j) => j);
  const place = entries.map((j) => at.get(base.lag(j)));
  return {
    ...base,
    key: only ? base.key : `\n${base.key}`, // no layer has a line break before its path
    cut,
    side,
    parts,
    only,
    verdict: cut.verdict,
    shares: cut.shares.map(toNumbers).map((share) => place.map((i) => share[i] ?? NaN)),
    norm: (j) => profiles[isJudged() ? (state.whole ? "profile" : "one") : "summed"][place[j]] ?? 0,
  };
}

// A cut as if it were a layer with one state, S, and the entries that a gradient came to.
function cutLayer(cut) {
  const source = cut.count - 1;
  const back = (list) => [...list].reverse(); // from the order of lags to that of computation
  const nothing = { alone: {}, means: {}, values: {}, gradients: {}, dead: {}, nonfinite: {} };
  return {
    ...nothing,
    path: cut.name,
    reverse: cut.reverse,
    count: cut.count,
    batch: cut.batch,
    index: back(cut.lags.map((lag) => source - lag)),
    steps: back(cut.steps),
    source: { S: source },
    norms: { S: back(cut.profile) },
    one: { S: back(cut.one) },
    verdicts: { S: cut.verdict },
  };
}

// What tells the cuts of a network apart: nothing, the direction, or their names.
function sidesOf(cuts) {
  if (cuts.length === 2 && cuts[0].reverse !== cuts[1].reverse)
    return cuts.map((cut) => (cut.reverse ? "←" : "→"));
  return cuts.map((cut) => (cuts.length > 1 ? cut.name : ""));
}
