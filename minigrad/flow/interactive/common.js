// Elements, made without markup: text stays text, whatever is in it. And the knob that all share.

const DATA = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const make = (tag, attributes = {}, ...children) =>
  filled(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) =>
  filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

// A slider over `labels`, with arrow keys, Home and End as any range input has them.
function knob(name, labels, start, turned) {
  const output = make("output");
  const input = make("input", { type: "range", min: 0, max: labels.length - 1, step: 1, "aria-label": name });
  const show = () => {
    output.textContent = labels[input.value];
    input.setAttribute("aria-valuetext", labels[input.value]);
  };
  input.value = start;
  show();
  input.addEventListener("input", () => {
    show();
    turned(Number(input.value));
  });
  $("knobs").append(make("div", { class: "knob" }, make("span", {}, name), output, input));
  return {
    turn(i) {
      input.value = i;
      show();
      turned(Number(input.value));
    },
  };
}

$("title").textContent = DATA.title;
$("note").textContent = DATA.note;
