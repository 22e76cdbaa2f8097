// Themes, the colour of a gradient (a sequential ramp on a log scale) and of a value (diverging).

const THEMES = ["auto", "light", "dark"];
const wantsDark = window.matchMedia("(prefers-color-scheme: dark)");
let theme = remembered();
let printing = false;

function remembered() {
  try {
    const kept = window.localStorage.getItem("minigrad-explorer-theme");
    return THEMES.includes(kept) ? kept : "auto";
  } catch {
    return "auto"; // a browser that keeps nothing for files
  }
}

function remember(value) {
  try {
    window.localStorage.setItem("minigrad-explorer-theme", value);
  } catch {
    // The choice then lasts as long as the page.
  }
}

const isDark = () => !printing && (theme === "dark" || (theme === "auto" && wantsDark.matches));

function applyTheme() {
  document.documentElement.dataset.theme = isDark() ? "dark" : "light";
}

const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
const css = (color) => `rgb(${color.map(Math.round).join(" ")})`;

function mixed(stops, share) {
  const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const i = Math.min(Math.floor(place), stops.length - 2);
  const [a, b] = [rgb(stops[i]), rgb(stops[i + 1])];
  return a.map((x, c) => x + (place - i) * (b[c] - x));
}

const ramp = () => DATA.ramps[isDark() ? "dark" : "light"];
const paper = () => (isDark() ? "#1b1f27" : "#ffffff");
const VALUES = {
  light: ["#2b6a9e", "#8db9d9", "#f4f3ef", "#eeb38c", "#b8502f"],
  dark: ["#8cc4f5", "#3f6f9c", "#242933", "#9a5434", "#ffb287"],
};
const SERIES = {
  light: ["#2f6db5", "#b84a22", "#217a5d", "#8250a8", "#7d6212", "#5c6470"],
  dark: ["#82b4f0", "#f29b74", "#6fcfae", "#cba2ea", "#dcc16a", "#aab2bf"],
};
const seriesColor = (i) => SERIES[isDark() ? "dark" : "light"][i % 6];

// rgb of a gradient's norm: one scale for everything on the page.
function gradientRgb(norm) {
  if (!Number.isFinite(norm)) return rgb(ramp().broken);
  if (norm === 0) return rgb(paper());
  const { low, high } = DATA.scale;
  return mixed(ramp().stops, (Math.log10(Math.abs(norm)) - low) / (high - low));
}

// rgb of a value between -limit and limit.
function valueRgb(x, limit) {
  if (!Number.isFinite(x)) return rgb(ramp().broken);
  return mixed(VALUES[isDark() ? "dark" : "light"], limit > 0 ? 0.5 + x / limit / 2 : 0.5);
}

function luminance(color) {
  const [r, g, b] = color.map((x) => {
    const s = x / 255;
    return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

// Text on a colour: the one of the two inks that has the greater contrast.
const inkOn = (color) => (luminance(color) > 0.179 ? "#1a1e27" : "#f6f4ef");

const SUPER = {
  "-": "⁻",
  0: "⁰",
  1: "¹",
  2: "²",
  3: "³",
  4: "⁴",
  5: "⁵",
  6: "⁶",
  7: "⁷",
  8: "⁸",
  9: "⁹",
};
const SUB = "₀₁₂₃₄₅₆₇₈₉";
const superscript = (n) => String(n).replace(/[-\d]/g, (c) => SUPER[c]);
const subscript = (n) => String(n).replace(/\d/g, (c) => SUB[c]);

// As Python prints it: 3.2e-7, 0.25, NaN.
function format(x, digits = 2) {
  if (Number.isNaN(x)) return "NaN";
  if (!Number.isFinite(x)) return x > 0 ? "Inf" : "-Inf";
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (size < 0.01 || size >= 1000) return x.toExponential(digits - 1).replace("e+", "e");
  return String(Number(x.toPrecision(digits + 1)));
}

// A share; only all of it is 100 %, and only nothing 0 %.
function percent(share) {
  if (share > 0 && share < 0.01) return "<1 %";
  if (share > 0.99 && share < 1) return ">99 %";
  return `${Math.round(100 * share)} %`;
}

const VISIBLE = { " ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍", "\0": "␀" };
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/;
const JOINERS = /^[\u200c\u200d]$/; // alone; inside an emoji they belong to it

// A character as one can see it: white space and controls by symbols or their code point.
function visible(text) {
  if (text in VISIBLE) return VISIBLE[text];
  return Array.from(text, (c) =>
    CONTROL.test(c) || JOINERS.test(text)
      ? `U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`
      : c,
  ).join("");
}
