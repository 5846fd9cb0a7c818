// Daily bars with uPlot, over the picture the server drew. It comes with the first page that has a chart.
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

const drawn = new Map();
const DAY = 86400;

// Of any colour the tokens are written in, one that a canvas takes.
function colour(name) {
  const probe = document.createElement("span");
  probe.hidden = true;
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function tip(plot, unit) {
  const box = document.createElement("div");
  box.className = "chart-tip";
  box.hidden = true;
  plot.over.append(box);
  return () => {
    const { idx } = plot.cursor;
    const value = idx == null ? null : plot.data[1][idx];
    box.hidden = value == null;
    if (value == null) return;
    const day = new Date(plot.data[0][idx] * 1000).toISOString().slice(0, 10);
    box.textContent = `${day}  ${value.toLocaleString("en").replaceAll(",", " ")} ${unit}`;
    const left = plot.valToPos(plot.data[0][idx], "x");
    box.style.left = `${Math.min(Math.max(left - box.offsetWidth / 2, 0), plot.over.clientWidth - box.offsetWidth)}px`;
    box.style.top = "0";
  };
}

function draw(figure) {
  const { label, unit, points } = JSON.parse(figure.dataset.chart);
  if (points.length < 2) return;
  const place = figure.querySelector(".chart-plot");
  const days = points.map(([day]) => Date.parse(`${day}T00:00:00Z`) / 1000);
  const [ink, line, accent] = [colour("--muted"), colour("--line"), colour("--accent")];
  const long = days.at(-1) - days[0] > 400 * DAY;
  const day = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", month: "short", ...(long ? { year: "numeric" } : { day: "numeric" }) });
  const font = `12px ${getComputedStyle(document.body).fontFamily}`;
  const axis = { stroke: ink, font, grid: { stroke: line, width: 1 }, ticks: { show: false } };
  const options = {
    width: place.clientWidth,
    height: place.clientHeight,
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
    padding: [8, 8, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
    scales: {
      x: { range: [days[0] - DAY, days.at(-1) + DAY] },
      y: { range: (_, __, most) => [0, Math.max(most * 1.08, 4)] },
    },
    axes: [
      { ...axis, grid: { show: false }, space: 80, size: 28, values: (_, ticks) => ticks.map((tick) => (tick < days[0] ? "" : day.format(tick * 1000))) },
      { ...axis, size: 48, space: 34, values: (_, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? short(tick) : "")) },
    ],
    series: [{}, { label, fill: accent, width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.75, 28], radius: 0.15 }) }],
  };
  const plot = new uPlot(options, [days, points.map(([, count]) => count)]);
  const follow = tip(plot, unit);
  plot.over.addEventListener("mousemove", () => requestAnimationFrame(follow));
  plot.over.addEventListener("mouseleave", () => requestAnimationFrame(follow));
  plot.root.setAttribute("aria-hidden", "true"); // there is the table
  drawn.get(figure)?.destroy();
  drawn.set(figure, plot);
  place.replaceChildren(plot.root);
}

function short(number) {
  return Intl.NumberFormat("en", { notation: "compact" }).format(number);
}

const sizes = new ResizeObserver((changes) => {
  for (const { target, contentRect } of changes) {
    const plot = drawn.get(target.closest("[data-chart]"));
    if (plot && Math.abs(plot.width - contentRect.width) > 1) plot.setSize({ width: contentRect.width, height: contentRect.height });
  }
});

export function start() {
  for (const figure of document.querySelectorAll("[data-chart]")) {
    if (drawn.has(figure)) continue;
    draw(figure);
    sizes.observe(figure.querySelector(".chart-plot"));
  }
}

const again = () => drawn.forEach((_, figure) => draw(figure));
document.addEventListener("fairway:theme", again);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
