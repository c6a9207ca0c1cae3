// Search and order of the cards; without this script they are all there, largest first.
"use strict";
const cards = document.getElementById("cards");
if (cards) {
  const find = document.getElementById("find");
  const sort = document.getElementById("sort");
  const count = document.getElementById("count");
  const all = Array.from(cards.querySelectorAll(".card"), (element) => ({
    element,
    text: element.dataset.text.toLowerCase(),
    data: element.dataset,
  }));

  const filter = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const card of all) {
      const fits = words.every((word) =>
        /^\d+$/.test(word) ? card.text.split(/\s+/).includes(word) : card.text.includes(word),
      );
      card.element.hidden = !fits;
      shown += fits;
    }
    count.textContent = `${shown.toLocaleString("en")} of ${all.length.toLocaleString("en")}`;
  };

  const order = () => {
    const [key, up] = sort.value.split("-");
    const sign = up || key === "id" ? 1 : -1;
    all.sort((a, b) => sign * (a.data[key] - b.data[key]) || a.data.id - b.data.id);
    const fragment = document.createDocumentFragment();
    for (const card of all) fragment.append(card.element);
    cards.append(fragment);
  };

  find.addEventListener("input", filter);
  sort.addEventListener("change", order);
  const form = document.getElementById("tools");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  filter();
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== find) {
      event.preventDefault();
      find.focus();
    }
  });
}
// On a cluster's page the arrow keys turn to its neighbours in the list.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select")) return;
  const link = document.getElementById({ ArrowLeft: "before", ArrowRight: "after" }[event.key] || "");
  if (link) link.click();
});
