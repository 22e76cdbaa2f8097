"use strict";
// The slide is in the address: a reload stays, and a slide can be sent as a link.
const slides = [...document.querySelectorAll("section")];
const told = document.querySelector("output");
const total = Number(document.querySelector("main").lastElementChild.dataset.clock);

function current() {
  const asked = Number(location.hash.slice(1)) || 1;
  return Math.min(Math.max(asked, 1), slides.length);
}

function show() {
  const now = current();
  slides.forEach((slide, k) => slide.classList.toggle("shown", k === now - 1));
  const clock = total ? `, minute ${slides[now - 1].dataset.clock} of ${total}` : "";
  told.textContent = `${now} / ${slides.length}${clock}`;
}

function turn(by) {
  location.hash = Math.min(Math.max(current() + by, 1), slides.length);
}

const keys = { ArrowRight: 1, PageDown: 1, " ": 1, ArrowLeft: -1, PageUp: -1, Backspace: -1 };
addEventListener("keydown", (event) => {
  if (event.target.closest("input, textarea, select, iframe") || event.ctrlKey || event.metaKey) {
    return;
  }
  if (event.key in keys) {
    event.preventDefault();
    turn(keys[event.key]);
  } else if (event.key === "Home" || event.key === "End") {
    location.hash = event.key === "Home" ? 1 : slides.length;
  } else if (event.key === "f") {
    document.documentElement.requestFullscreen();
  }
});
const [back, on] = document.querySelectorAll("footer button");
back.addEventListener("click", () => turn(-1));
on.addEventListener("click", () => turn(1));
let start = null;
addEventListener("touchstart", (event) => (start = event.touches[0]), { passive: true });
addEventListener("touchend", (event) => {
  const end = event.changedTouches[0];
  const across = end.clientX - start.clientX;
  if (Math.abs(across) > 60 && Math.abs(across) > 2 * Math.abs(end.clientY - start.clientY)) {
    turn(across < 0 ? 1 : -1);
  }
});
addEventListener("hashchange", show);
show();
