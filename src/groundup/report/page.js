"use strict";
// Shows the values under the pointer, a finger or the arrow keys. Without this script the charts stay readable.
for (const svg of document.querySelectorAll("svg[data-chart]")) {
  const chart = JSON.parse(svg.dataset.chart);
  const [xLow, xHigh, xStart, xEnd] = chart.x;
  const cursor = document.createElementNS(svg.namespaceURI, "line");
  cursor.setAttribute("class", "cursor");
  cursor.setAttribute("y1", chart.y[3]);
  cursor.setAttribute("y2", chart.y[2]);
  cursor.setAttribute("visibility", "hidden");
  svg.append(cursor);
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  tip.setAttribute("role", "status");
  svg.parentNode.append(tip);
  const steps = [...new Set(chart.series.flatMap((series) => series.points.map((point) => point[0])))].sort((a, b) => a - b);
  let at = -1;

  const nearest = (points, x) => {
    let low = 0, high = points.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (points[middle][0] < x) low = middle + 1; else high = middle;
    }
    return low > 0 && x - points[low - 1][0] < points[low][0] - x ? low - 1 : low;
  };
  const line = (text) => {
    const paragraph = document.createElement("p");
    paragraph.textContent = text;
    return paragraph;
  };
  const show = (index) => {
    at = Math.max(0, Math.min(steps.length - 1, index));
    const x = steps[at];
    const place = xStart + ((x - xLow) / (xHigh - xLow)) * (xEnd - xStart);
    cursor.setAttribute("x1", place);
    cursor.setAttribute("x2", place);
    cursor.setAttribute("visibility", "visible");
    const lines = [line(`${chart.xName} ${x.toLocaleString("en")}`)];
    for (const series of chart.series) {
      const point = series.points[nearest(series.points, x)];
      lines.push(line(`${series.name}: ${Number(point[1].toPrecision(5)).toLocaleString("en", { maximumSignificantDigits: 5 })}`));
    }
    tip.replaceChildren(...lines);
    tip.className = place > (xStart + xEnd) / 2 ? "tip left" : "tip right";
    tip.hidden = false;
  };
  const hide = () => {
    tip.hidden = true;
    cursor.setAttribute("visibility", "hidden");
  };
  const follow = (event) => {
    const box = svg.getBoundingClientRect();
    const place = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    const x = xLow + ((place - xStart) / (xEnd - xStart)) * (xHigh - xLow);
    show(nearest(steps.map((step) => [step]), x));
  };
  svg.addEventListener("pointermove", follow);
  svg.addEventListener("pointerdown", follow);
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("focus", () => show(steps.length - 1));
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const jump = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (jump === undefined) return;
    event.preventDefault();
    show(Number.isFinite(jump) ? at + jump * Math.max(1, Math.round(steps.length / 60)) : jump < 0 ? 0 : steps.length - 1);
  });
}
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("section > details")) details.open = true;
});
