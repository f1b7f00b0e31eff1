"use strict";
// A cursor over every chart: the nearest point of each line, with its value; on a map, what the nearest dot stands for.
// Without this script the charts still show.
const SVG = "http://www.w3.org/2000/svg";

function nearest(points, x) {
  return points.reduce((best, point) => (Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best));
}

function draw(tag, attributes, parent) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return parent.appendChild(node);
}

function addTip(figure) {
  const tip = figure.appendChild(document.createElement("div"));
  tip.className = "tip";
  tip.hidden = true;
  return tip;
}

// Beside a place of the drawing, on the side where there is more room, and never outside of the figure.
function placeTip(tip, svg, x, y) {
  const box = svg.getBoundingClientRect();
  const frame = tip.parentElement.getBoundingClientRect();
  const scale = box.width / svg.viewBox.baseVal.width;
  const at = box.left - frame.left + x * scale;
  const beside = x > svg.viewBox.baseVal.width / 2 ? at - tip.offsetWidth - 12 : at + 12;
  tip.style.left = `${Math.max(4, Math.min(beside, frame.width - tip.offsetWidth - 4))}px`;
  tip.style.top = `${box.top - frame.top + y * scale}px`;
}

function watch(surface, show, hide) {
  surface.addEventListener("pointermove", show);
  surface.addEventListener("pointerdown", show);
  // A finger leaves the screen at once; what it pointed at stays until it taps elsewhere.
  surface.addEventListener("pointerleave", (event) => event.pointerType !== "touch" && hide());
  document.addEventListener("pointerdown", (event) => !surface.contains(event.target) && hide());
}

function addCursor(figure) {
  const svg = figure.querySelector("svg");
  const lines = JSON.parse(figure.dataset.lines);
  const [left, top, right, bottom] = JSON.parse(figure.dataset.area);
  const cursor = draw("g", { class: "cursor", visibility: "hidden" }, svg);
  const rule = draw("line", { class: "rule", y1: top, y2: bottom }, cursor);
  const dots = lines.map((line) => draw("circle", { class: `dot c${line.colour}`, r: 4 }, cursor));
  const surface = draw("rect", { x: left, y: top, width: right - left, height: bottom - top, opacity: 0 }, svg);
  const tip = addTip(figure);

  function show(event) {
    const box = svg.getBoundingClientRect();
    const scale = box.width / svg.viewBox.baseVal.width;
    const x = (event.clientX - box.left) / scale;
    const found = lines.map((line) => nearest(line.points, x));
    const anchor = nearest(found, x);
    cursor.setAttribute("visibility", "visible");
    rule.setAttribute("x1", anchor[0]);
    rule.setAttribute("x2", anchor[0]);
    const head = document.createElement("b");
    head.textContent = `${figure.dataset.x} ${anchor[2]}`;
    tip.replaceChildren(head);
    found.forEach((point, index) => {
      // Lines that are drawn at few places (evaluations) speak only where they have a point.
      const here = Math.abs(point[0] - anchor[0]) < 3;
      dots[index].setAttribute("visibility", here ? "inherit" : "hidden");
      if (!here) return;
      dots[index].setAttribute("cx", point[0]);
      dots[index].setAttribute("cy", point[1]);
      const row = document.createElement("span");
      row.className = `key c${lines[index].colour}`;
      row.textContent = lines.length > 1 ? `${lines[index].name}: ${point[3]}` : point[3];
      tip.append(row);
    });
    tip.hidden = false;
    placeTip(tip, svg, anchor[0], top);
  }

  function hide() {
    cursor.setAttribute("visibility", "hidden");
    tip.hidden = true;
  }

  watch(surface, show, hide);
}

function addReader(figure) {
  const svg = figure.querySelector("svg");
  const dots = [...svg.querySelectorAll("circle")].map((dot) => {
    const title = dot.querySelector("title");
    const found = { node: dot, x: dot.cx.baseVal.value, y: dot.cy.baseVal.value, text: title.textContent };
    title.remove(); // or the browser shows it as well, a second later
    return found;
  });
  const tip = addTip(figure);
  let last = null;

  function show(event) {
    const box = svg.getBoundingClientRect();
    const scale = box.width / svg.viewBox.baseVal.width;
    const x = (event.clientX - box.left) / scale;
    const y = (event.clientY - box.top) / scale;
    const distance = (dot) => Math.hypot(dot.x - x, dot.y - y);
    const dot = dots.reduce((best, each) => (distance(each) < distance(best) ? each : best));
    last?.node.classList.remove("pointed");
    last = dot;
    dot.node.classList.add("pointed");
    tip.textContent = dot.text;
    tip.hidden = false;
    placeTip(tip, svg, dot.x, dot.y);
  }

  function hide() {
    last?.node.classList.remove("pointed");
    tip.hidden = true;
  }

  watch(svg, show, hide);
}

document.querySelectorAll("figure[data-lines]").forEach(addCursor);
document.querySelectorAll("figure.map").forEach(addReader);
