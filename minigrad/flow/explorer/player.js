// The walk: play, pause, one step, a slider, keys; and what it says at every step.
//
// The slider is time: its right end is the loss, and the walk backwards moves it to the left. In
// the forward pass it counts the steps computed, from the left.

let timer = 0;
let due = 0;
let spoken = 0;

const forward = () => state.phase === "forward";
const stepsOf = () => (forward() ? STEPS_FORTH : STEPS_BACK);
const position = () => (forward() ? state.f : state.k);

function moveTo(taken) {
  const value = Math.min(Math.max(taken, 0), stepsOf());
  if (forward()) state.f = value;
  else state.k = value;
  emit("time");
}

function setPhase(phase) {
  state.phase = phase;
  drawPhase();
  emit("time");
}

function drawPhase() {
  const slider = $("time");
  slider.min = 0;
  slider.max = stepsOf();
  slider.disabled = stepsOf() === 0;
  for (const input of $("phases").querySelectorAll("input"))
    input.checked = input.value === state.phase;
}

function paintTime() {
  const slider = $("time");
  slider.value = forward() ? state.f : STEPS_BACK - state.k;
  styled(slider, { "--done": `${stepsOf() ? (Number(slider.value) / stepsOf()) * 100 : 0}%` });
  slider.classList.toggle("backward", !forward());
  const told = telling();
  slider.setAttribute("aria-valuetext", told.where);
  $("now").replaceChildren(
    make("strong", {}, told.where),
    told.what ? make("span", { class: "number" }, told.what) : "",
    make("span", { class: "muted" }, told.more),
  );
  speak(`${told.where}${told.what ? `: ${told.what}` : ""}`);
  paintCells_();
}

// A screen reader hears where the walk is, but not forty times a second.
function speak(text) {
  clearTimeout(spoken);
  const delay = state.playing ? 1200 : 120;
  if (state.playing && performance.now() - due < delay) return;
  due = performance.now();
  if (state.playing) $("live").textContent = plain(text);
  else {
    spoken = setTimeout(() => {
      $("live").textContent = plain(text);
    }, delay);
  }
}

// What there is to say about the selected network: {where, what, more}.
function telling() {
  const model = selected();
  const told = model.main.map((row) => ({ row, j: frontOf(row) })).filter(({ j }) => j >= 0);
  if (STEPS_BACK === 0 && !forward()) {
    return { where: "no gradient arrived", what: "", more: " at any state of any network" };
  }
  if (!told.length) {
    const where = forward() ? "before the first step" : "at the loss";
    return { where, what: "", more: forward() ? "" : " nothing has travelled back yet" };
  }
  const { row, j } = told[0];
  const t = row.layer.steps[j];
  const where = `step ${t + 1} of ${row.layer.count}`;
  if (forward()) return { where, what: "", more: ` of the forward pass, ${model.network.name}` };
  const what = told
    .map(({ row: r, j: i }) => `|dL/d${r.name}| ${r.side} ${format(r.norm(i))}`.replace("  ", " "))
    .join(", ");
  return {
    where,
    what,
    more: ` ${model.network.name}, ${plural(row.lag(j), "step")} from the loss`,
  };
}


// A button for each network, with the norm where its walk is.
function drawCells() {
  $("cells").hidden = networks.length < 2;
  $("cells").replaceChildren(
    ...networks.map((network, i) => {
      const swatch = styled(make("i", { class: "swatch", "aria-hidden": true }), {
        background: seriesColor(i),
      });
      const button = make(
        "button",
        { type: "button", "aria-pressed": String(i === state.network) },
        swatch,
        make("span", {}, network.name),
      );
      button.append(
        make("span", { class: "readout" }, make("i", { class: "dot" }), make("span", {})),
      );
      button.addEventListener("click", () => {
        select(i);
        $("cells").children[i].focus();
      });
      return button;
    }),
  );
}

function paintCells_() {
  [...$("cells").children].forEach((button, i) => {
    const row = modelOf(networks[i]).main[0];
    const front = frontOf(row);
    const [dot, text] = button.querySelector(".readout").children;
    const norm = front >= 0 && !forward() ? row.norm(front) : NaN;
    const known = front >= 0 && !forward();
    text.textContent = known ? format(norm) : "";
    dot.hidden = !known;
    if (known) styled(dot, { background: css(gradientRgb(norm)) });
  });
}

// -- playing

function play() {
  if (position() >= stepsOf() || forward() !== $("forward-first").checked) restart();
  state.playing = true;
  drawPlay();
  timer = setTimeout(tick, pace().pause);
}

// Steps a second; beyond FRAMES they are taken several at once.
const FRAMES = 40;
const LONG = 400; // steps for which one would not wait at FRAMES a second
function pace() {
  const speed = Number($("speed").value);
  return { pause: 1000 / Math.min(speed, FRAMES), by: Math.max(1, Math.round(speed / FRAMES)) };
}

function fillSpeeds() {
  const speeds = [3, 12, 40].map((speed) => [String(speed), `${speed} steps/s`]);
  const longest = Math.max(STEPS_BACK, STEPS_FORTH);
  const whole = String(Math.ceil(longest / 10));
  if (longest > LONG) speeds.push([whole, "all in 10 s"]);
  fillSelect($("speed"), speeds, reducedMotion.matches ? "3" : longest > LONG ? whole : "12");
}

function restart() {
  state.f = state.k = 0;
  setPhase($("forward-first").checked ? "forward" : "backward");
}

function pause() {
  state.playing = false;
  clearTimeout(timer);
  drawPlay();
  emit("time");
}

function tick() {
  clearTimeout(timer);
  if (!state.playing) return;
  if (position() >= stepsOf()) {
    if (!forward()) return void pause();
    state.k = 0;
    setPhase("backward");
  } else moveTo(position() + pace().by);
  timer = setTimeout(tick, pace().pause);
}

function drawPlay() {
  const button = $("play");
  button.replaceChildren(icon(state.playing ? "pause" : "play"), state.playing ? "Pause" : "Play");
  button.title = "Space";
}

const ICONS = {
  play: "M5 3l9 6-9 6z",
  pause: "M4 3h4v12H4zM10 3h4v12h-4z",
  back: "M12 3L5 9l7 6z",
  forth: "M6 3l7 6-7 6z",
};

function icon(name) {
  return draw(
    "svg",
    { viewBox: "0 0 18 18", width: 16, height: 16, "aria-hidden": true },
    draw("path", { d: ICONS[name] }),
  );
}

const takesKeys = (element) =>
  element.closest?.(
    "select, input:not([type=range]):not([type=radio]):not([type=checkbox]), textarea",
  );

// direction: -1 is one step to the left, which is back in time.
function nudge(direction) {
  if (state.playing) pause();
  moveTo(position() + (forward() ? direction : -direction));
}

function pageKey(event) {
  if (event.altKey || event.ctrlKey || event.metaKey || takesKeys(event.target)) return;
  const onButton = event.target.closest?.("button, summary, a");
  const onRadio = event.target.closest?.("[type=radio], [type=checkbox]");
  const ends = { Home: forward() ? 0 : STEPS_BACK, End: forward() ? STEPS_FORTH : 0 };
  if (event.key === " " && !onButton && !onRadio) state.playing ? pause() : play();
  else if (event.key === "Escape" && state.pinned) {
    state.pinned = null;
    emit("node");
  } else if (event.target === $("time") || onRadio) return;
  else if (event.target.matches?.(".scroll") && event.key.startsWith("Arrow")) return;
  else if (event.key === "ArrowLeft") nudge(-1);
  else if (event.key === "ArrowRight") nudge(1);
  else if (event.key in ends) moveTo(ends[event.key]);
  else return;
  event.preventDefault();
}

function startPlayer() {
  fillSpeeds();
  $("back").append(icon("back"));
  $("forth").append(icon("forth"));
  $("back").addEventListener("click", () => nudge(-1));
  $("forth").addEventListener("click", () => nudge(1));
  $("play").addEventListener("click", () => (state.playing ? pause() : play()));
  $("time").addEventListener("input", (event) => {
    if (state.playing) pause();
    const value = Number(event.target.value);
    moveTo(forward() ? value : STEPS_BACK - value);
  });
  document.addEventListener("keydown", pageKey);
  on("shape", drawCells);
  on("shape time", paintTime);
  drawPlay();
  drawPhase();
}
