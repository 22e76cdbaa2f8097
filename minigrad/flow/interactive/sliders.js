// Curves, or drawings, that were computed for every position of the knobs.

const MARGIN = { left: 62, right: 14, top: 10, bottom: 42 };
const DASHES = ["", "7 4", "2 3", "9 3 2 3", "4 2", "1 2"];
const SUPER = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
const position = DATA.knobs.map((k) => k.start);

// The last knob moves fastest, as in itertools.product.
const frame = () =>
  DATA.frames[DATA.knobs.reduce((at, k, i) => at * k.labels.length + position[i], 0)];

function ticks(lo, hi, count) {
  const raw = (hi - lo) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((m) => m * power >= raw);
  const found = [];
  for (let i = Math.ceil(lo / step - 1e-9); i * step <= hi + 1e-9 * step; i += 1) found.push(i * step);
  return found;
}

function powers(lo, hi) {
  const step = Math.ceil((hi - lo) / 7) || 1;
  const found = [];
  for (let p = Math.ceil(lo / step - 1e-9) * step; p <= hi + 1e-9; p += step) found.push(p);
  return found;
}

const number = (x) => String(Number(x.toPrecision(6)));
const power = (p) => (p === 0 ? "1" : `10${String(p).replace(/[-\d]/g, (c) => SUPER[c])}`);

// As high as the frame has room for, with the legend and the note below.
function heightLeft() {
  const below = ($("shown").querySelector(".legend")?.offsetHeight ?? 26) + $("note").offsetHeight + 32;
  return Math.min(Math.max(window.innerHeight - $("shown").offsetTop - below, 220), 460);
}

function chart(lines) {
  const width = Math.max($("shown").clientWidth, 240);
  const height = heightLeft();
  const [x0, x1, y0, y1] = DATA.limits; // of log10 y, where that is the axis
  const right = width - MARGIN.right;
  const bottom = height - MARGIN.bottom;
  const X = (x) => MARGIN.left + ((x - x0) / (x1 - x0)) * (right - MARGIN.left);
  const Y = (y) => bottom - ((y - y0) / (y1 - y0)) * (bottom - MARGIN.top);
  const svg = draw("svg", { width, height, role: "img", "aria-label": `${DATA.y} by ${DATA.x}: ${lines.map((l) => l.name).join(", ")}` });
  const box = { x: MARGIN.left, y: MARGIN.top, width: right - MARGIN.left, height: bottom - MARGIN.top };
  svg.append(draw("clipPath", { id: "inside" }, draw("rect", box)));
  if (DATA.under) svg.append(draw("image", { ...box, href: DATA.under, class: "under", preserveAspectRatio: "none" }));
  for (const y of DATA.log ? powers(y0, y1) : ticks(y0, y1, 5)) {
    svg.append(draw("line", { class: "axis", x1: MARGIN.left, x2: right, y1: Y(y), y2: Y(y) }));
    svg.append(draw("text", { x: MARGIN.left - 7, y: Y(y) + 4, "text-anchor": "end" }, DATA.log ? power(y) : number(y)));
  }
  for (const x of ticks(x0, x1, Math.max(3, Math.round(width / 110)))) {
    svg.append(draw("line", { class: "axis", x1: X(x), x2: X(x), y1: bottom, y2: bottom + 4 }));
    svg.append(draw("text", { x: X(x), y: bottom + 17, "text-anchor": "middle" }, number(x)));
  }
  svg.append(draw("text", { x: (MARGIN.left + right) / 2, y: height - 6, "text-anchor": "middle" }, DATA.x));
  const middle = (MARGIN.top + bottom) / 2;
  svg.append(draw("text", { x: 13, y: middle, "text-anchor": "middle", transform: `rotate(-90 13 ${middle})` }, DATA.y));
  const curves = draw("g", { "clip-path": "url(#inside)" });
  for (const line of lines) {
    const stroke = `var(--s${line.look})`;
    let d = "";
    line.ys.forEach((y, i) => {
      const place = y === null || (DATA.log && y <= 0) ? null : [X(line.xs ? line.xs[i] : i), Y(DATA.log ? Math.log10(y) : y)];
      const before = i > 0 && d !== "" && !d.endsWith("|");
      d += place === null ? (before ? "|" : "") : `${before ? "L" : "M"}${place[0].toFixed(1)} ${place[1].toFixed(1)}`;
      if (place && line.xs) curves.append(draw("circle", { cx: place[0], cy: place[1], r: line.ys.length > 60 ? 1.7 : 2.5, fill: stroke }));
    });
    curves.append(draw("path", { class: "curve", d: d.replaceAll("|", ""), stroke, "stroke-dasharray": DASHES[line.look] }));
  }
  svg.append(curves);
  const legend = lines.map((line) =>
    make("span", {},
      draw("svg", { width: 26, height: 8 }, draw("path", { d: "M0 4H26", class: "curve", stroke: `var(--s${line.look})`, "stroke-dasharray": DASHES[line.look] })),
      line.name));
  $("shown").replaceChildren(svg, make("div", { class: "legend" }, ...legend));
}

// No narrower than it can be read; what is wider than the page scrolls.
function picture({ uri, least, alt }) {
  const image = make("img", { src: DATA.pictures[uri], alt });
  image.style.setProperty("min-width", `${least}px`);
  image.style.setProperty("max-height", `${Math.max(window.innerHeight - $("shown").offsetTop - 24, 300)}px`);
  $("shown").tabIndex = 0;
  $("shown").replaceChildren(image);
}

function show() {
  const now = frame();
  $("words").textContent = now.words;
  if (now.picture) picture(now.picture);
  else chart(now.lines);
}

DATA.knobs.forEach((k, i) =>
  knob(k.name, k.labels, k.start, (at) => {
    position[i] = at;
    show();
  }));
show();
window.addEventListener("resize", show);
new ResizeObserver(show).observe($("knobs")); // a frame may get its width late
document.documentElement.dataset.ready = "true";
