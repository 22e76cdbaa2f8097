// A text; of the chosen letter's prediction, how much each letter had to do with that.

const letters = DATA.text.map((letter, t) =>
  make("span", { class: "letter", onclick: () => choose.turn(t), onmouseover: () => choose.turn(t) },
    letter === "\n" ? "⏎\n" : letter));
$("shown").append(make("div", { class: "text" }, ...letters));

function show(t) {
  const row = DATA.rows[t];
  letters.forEach((letter, s) => {
    letter.classList.toggle("now", s === t);
    letter.classList.toggle("later", s > t && row[s] === 0);
    letter.style.setProperty("background-color", `rgb(var(--tint) / ${row[s] / 100})`);
  });
  $("words").textContent = DATA.said[t] ?? "";
}

const choose = knob(DATA.knob, DATA.text.map((_, t) => `${t + 1} of ${DATA.text.length}`), DATA.start, show);
show(DATA.start);
document.documentElement.dataset.ready = "true";
