// Controls over examples: which are shown, and in which order. The cards are there already.

const plain = (text) => text.toLowerCase().replace(/\s+/g, " ").trim();

function addControls(controls) {
  const list = controls.parentElement.querySelector(".examples");
  const found = controls.querySelector("output");
  const cards = [...list.children].map((node) => ({
    node,
    dataset: node.dataset.dataset,
    slices: JSON.parse(node.dataset.slices),
    answers: JSON.parse(node.dataset.answers),
    text: null,
  }));
  const chosen = (name) => controls.querySelector(`[name="${name}"]`)?.value ?? "";
  const target = () => chosen("target") || Object.keys(cards[0].answers)[0];

  function passes(card, verdict, metric, words) {
    const answer = card.answers[target()];
    const dataset = chosen("dataset");
    const slice = chosen("slice");
    if (dataset && card.dataset !== dataset) return false;
    if (slice && !card.slices.includes(slice)) return false;
    if (verdict === "failed" && !answer?.failed) return false;
    if (verdict === "unscored" && !answer?.unscored.includes(metric)) return false;
    if (["won", "lost", "tied"].includes(verdict) && answer?.verdicts[metric] !== verdict) return false;
    if (!words) return true;
    card.text ??= plain(card.node.textContent);
    return card.text.includes(words);
  }

  // What has no value comes last, whichever way the others are ordered.
  function ordered(order, metric) {
    const kind = order === "loss" || order === "gain" ? "gains" : "values";
    const sign = order === "worst" || order === "loss" ? 1 : -1;
    const value = (card) => card.answers[target()]?.[kind][metric];
    const rank = (card) => (value(card) === undefined ? Infinity : sign * value(card));
    const places = new Map(cards.map((card, index) => [card, index]));
    return [...cards].sort((one, other) => {
      const [first, second] = [rank(one), rank(other)];
      return first === second ? places.get(one) - places.get(other) : first < second ? -1 : 1;
    });
  }

  let placed = "";
  function place(order, metric) {
    const wanted = order && JSON.stringify([order, metric, target()]);
    if (wanted === placed) return;
    placed = wanted;
    list.append(...(order ? ordered(order, metric) : cards).map((card) => card.node));
  }

  function show() {
    const [verdict, metric] = [chosen("verdict"), chosen("metric")];
    const words = plain(chosen("text"));
    let number = 0;
    for (const card of cards) {
      const isShown = passes(card, verdict, metric, words);
      card.node.hidden = !isShown;
      number += isShown;
    }
    place(chosen("order"), metric);
    found.textContent = `${number} of ${cards.length} examples`;
  }

  controls.hidden = false;
  controls.addEventListener("input", show);
  show();
}

document.querySelectorAll(".controls").forEach(addControls);
