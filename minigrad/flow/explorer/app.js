// The start: what stands on the page, and switches that change all of it.

function drawThemeButton() {
  $("theme").textContent = { auto: "Theme: system", light: "Theme: light", dark: "Theme: dark" }[
    theme
  ];
}

function startTheme() {
  applyTheme();
  drawThemeButton();
  $("theme").addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    remember(theme);
    restyle();
  });
  wantsDark.addEventListener("change", restyle);
  // Paper is white, whatever the screen is.
  window.addEventListener("beforeprint", () => reprint(true));
  window.addEventListener("afterprint", () => reprint(false));
}

function restyle() {
  applyTheme();
  drawThemeButton();
  emit("shape");
}

function reprint(now) {
  printing = now;
  restyle();
}

function startSwitches() {
  fillRadios(
    $("moments"),
    "moment",
    DATA.moments.map((m) => [m, m || "as recorded"]),
    state.moment,
    (moment) => {
      state.moment = moment;
      emit("shape");
    },
  );
  fillRadios(
    $("phases"),
    "phase",
    [
      ["forward", "Forward"],
      ["backward", "Backward (BPTT)"],
    ],
    state.phase,
    (phase) => {
      if (state.playing) pause();
      setPhase(phase);
    },
  );
  fillSelect(
    $("whole"),
    [
      ["whole", wholeName()],
      ["one", oneName()],
    ],
    "whole",
  );
  fillRadios(
    $("readings"),
    "reading",
    manySteps
      ? [
          ["judged", "Last output alone (judged)"],
          ["sum", "Sum over all outputs"],
        ]
      : [],
    state.reading,
    (reading) => {
      state.reading = reading;
      emit("shape");
    },
  );
  $("whole").closest("label").hidden = batchOf() < 2;
  $("whole").addEventListener("change", (event) => {
    state.whole = event.target.value === "whole";
    emit("shape");
  });
  $("zoom").addEventListener("change", (event) => {
    state.zoom = event.target.value;
    emit("shape");
  });
  $("alone").addEventListener("change", (event) => {
    state.alone = event.target.checked;
    emit("shape");
  });
  $("alone").closest("label").hidden = networks.length < 2;
  $("alone").checked = state.alone;
}

// Where the player and the graph stay in sight, one network at a time is as much as there is room
// for; how high they are decides where what has the focus may scroll to.
function startStage() {
  state.alone = narrow.matches && networks.length > 1;
  const root = document.documentElement;
  const measure = () => {
    const fixed = narrow.matches ? $("stage") : $("player");
    styled(root, { "--stage": `${fixed.offsetHeight}px` });
  };
  for (const id of ["stage", "player"]) new ResizeObserver(measure).observe($(id));
}

function about() {
  const { steps, units } = DATA.thinned;
  const lines = [
    "∂L/∂(state) is the gradient of the loss with respect to a state, h or c, at one time step. " +
      "A walk backwards through time starts at the loss: each step multiplies the gradient by a " +
      "Jacobian. Where that shrinks it step after step, the loss teaches nothing about what came " +
      "long before it.",
    "S is all that is carried from one step to the next in one direction: the states of every " +
      "layer together. Verdicts are about |dL/dS|, and the reach is the number of steps back " +
      "after which less than a thousandth of it is left.",
    `Colours, curves and verdicts are of ${wholeName()} in the batch; values, gates, single ` +
      `gradients and |dL/dx| of a text are of ${sequenceName()}. “Norm of” switches the ` +
      "colours to that sequence.",
    "Steps and units are counted from 1. The steps of a reverse layer (←) are computed from the " +
      "last to the first.",
  ];
  if (manySteps)
    lines.push(
      "A loss that is read at many steps is judged by what its last output sends back alone, since " +
        "the sum over all of them hides how far each of them reaches; the switch shows the sum. " +
        "|dL/dx| and single gradients are of the whole loss.",
    );
  if (steps > 1)
    lines.push(
      `To keep this page small, one step in ${steps} is shown. Verdicts and fits are of all steps.`,
    );
  if (units)
    lines.push(
      `To keep this page small, at most ${plural(units, "unit")} of each state are shown, evenly ` +
        "chosen. Norms and means are of all units.",
    );
  lines.push(
    "Values are rounded to 1/65,000 of their range, gradients to 0.2 %. Norms carry five digits.",
  );
  const keys = [
    ["Space", "play and pause"],
    ["← →", "one step back in time, one step towards the loss"],
    ["Home, End", "as far back as it goes, and back to the loss"],
    ["Tab to a node, arrow keys", "go from node to node, and up and down the states"],
    ["Enter", "pin the node; Escape unpins it"],
  ];
  const list = make("dl", { class: "keys" });
  for (const [key, what] of keys)
    list.append(make("div", {}, make("dt", {}, make("kbd", {}, key)), make("dd", {}, what)));
  $("about-text").replaceChildren(
    ...lines.map((line) => make("p", {}, line)),
    list,
    make(
      "p",
      { class: "muted" },
      `Written by minigrad ${DATA.version}`.trim() + ". This file loads nothing and sends nothing.",
    ),
  );
}

function subtitle() {
  const names = networks.map((network) => network.name).join(", ");
  const { steps, units } = DATA.thinned;
  const less = [
    steps > 1 ? `one step in ${steps}` : "",
    units ? `${units} units of each state` : "",
  ].filter(Boolean);
  const batch = batchOf() > 1 ? `; units of sequence ${DATA.sample + 1} of ${batchOf()}` : "";
  const thinned = less.length ? `; shown are ${less.join(" and ")}` : "";
  return `${names}: the gradient of a loss on its way back through time${batch}${thinned}`;
}

$("title").textContent = document.title = plain(DATA.title);
$("subtitle").textContent = plain(subtitle());
startTheme();
startStage();
startSwitches();
startGraph();
startInspector();
startText();
startUnits();
startVerdicts();
startDecay();
startPaths();
startTable();
startPlayer();
about();
emit("shape");
document.documentElement.dataset.ready = "true";
