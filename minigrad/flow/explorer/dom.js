// Elements, made without markup: text stays text, whatever is in it.

// Marks that would turn the order of the page's own words around, in a name that someone gave.
const TURNS = /[\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const plain = (text) => String(text).replace(TURNS, "\ufffd");
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function draw(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false && value !== undefined) {
      element.setAttribute(name, value === true && !name.startsWith("aria-") ? "" : plain(value));
    }
  }
  const kept = children.filter((child) => child !== null);
  element.append(...kept.map((child) => (child instanceof Node ? child : plain(child))));
  return element;
}

// Colours and sizes that depend on data: the policy closes style attributes, not the CSSOM.
function styled(element, properties) {
  for (const [name, value] of Object.entries(properties)) element.style.setProperty(name, value);
  return element;
}

// A list of [value, label] in a <select>; keeps the choice if it is still there.
function fillSelect(element, options, chosen) {
  element.replaceChildren(...options.map(([value, label]) => make("option", { value }, label)));
  const values = options.map(([value]) => value);
  element.value = values.includes(chosen) ? chosen : (values[0] ?? "");
  return element.value;
}

// Radio buttons that look like one switch.
function fillRadios(fieldset, name, options, chosen, choose) {
  const legend = fieldset.querySelector("legend");
  fieldset.replaceChildren(legend);
  options.forEach(([value, label], i) => {
    const input = make("input", { type: "radio", name, id: `${name}-${i}`, value });
    input.checked = value === chosen;
    input.addEventListener("change", () => choose(value));
    fieldset.append(input, make("label", { for: input.id }, label));
  });
  fieldset.hidden = options.length < 2;
}

function chip(kind, words = kind) {
  return make("span", { class: `verdict ${kind}` }, words);
}

const reducedMotion = window.matchMedia("(prefers-reduced-motion: reduce)");
const narrow = window.matchMedia("(max-width: 600px)");
