// A click on a picture shows it at its own size, over the page; Escape or a click closes it.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a.enlarge");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const dialog = document.createElement("dialog");
  dialog.className = "enlarged";
  const image = document.createElement("img");
  image.src = link.href;
  image.alt = link.querySelector("img").alt;
  image.addEventListener("load", () => {
    // At least as wide as the window: small drawings grow.
    image.style.width = `${Math.max(image.naturalWidth, window.innerWidth)}px`;
  });
  dialog.append(image);
  dialog.addEventListener("click", () => dialog.close());
  dialog.addEventListener("keydown", (key) => {
    if (key.key === "Escape") dialog.close();
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
});
