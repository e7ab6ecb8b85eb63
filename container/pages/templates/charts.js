// Unpacks Plotly, draws the charts in the scheme's colours, shows moments, prepares for print.
// Plotly lies in the page compressed. The page's security policy names the hashes of the two scripts,
// so that nothing else in it can run, and allows no request of any kind.
"use strict";
(() => {
  const root = document.documentElement;
  const specs = JSON.parse(document.getElementById("charts").textContent);
  const figures = [...document.querySelectorAll("figure.chart")];
  const plots = new Map(figures.map(f => [f.id, f.querySelector(".plot")]));
  const drawn = new Set();
  let shown = "";

  const paint = (value, style, colour) => {
    if (Array.isArray(value)) return value.map(each => paint(each, style, colour));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(
        ([key, each]) => [key, paint(each, style, colour || /color/i.test(key))]));
    }
    const name = colour && typeof value === "string" && /^--[a-z0-9-]+$/.test(value);
    if (!name) return value;
    return (style.getPropertyValue(value) || style.getPropertyValue("--gray")).trim();
  };

  const axis = { gridcolor: "--grid", zeroline: false, linecolor: "--line", automargin: true,
                 tickcolor: "--line", title: { standoff: 8, font: { size: 12, color: "--soft" } } };

  const merge = (base, own) => {
    const all = { ...base };
    for (const [key, value] of Object.entries(own || {})) {
      const both = value && typeof value === "object" && !Array.isArray(value) && all[key];
      all[key] = both ? merge(all[key], value) : value;
    }
    return all;
  };

  const marks = moments => {
    const shapes = [], annotations = [];
    for (const each of moments) {
      const on = each.anchor === shown;
      shapes.push({ type: "line", x0: each.x, x1: each.x, y0: 0, y1: 1, yref: "paper",
                    line: { color: "--red", width: on ? 3 : 1, dash: on ? "solid" : "dot" } });
      annotations[on ? "push" : "unshift"]({
                         x: each.x, y: 1, yref: "paper", yanchor: "bottom", showarrow: false,
                         text: on ? "<b>▼ " + each.label + "</b>" : "▾", hovertext: each.label,
                         bgcolor: on ? "--card" : undefined,
                         font: { color: "--red", size: on ? 12 : 11 } });
    }
    return { shapes, annotations };
  };

  const layout = spec => {
    const base = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true,
      font: { family: "system-ui, sans-serif", size: 12, color: "--soft" },
      margin: { l: 12, r: 12, t: 30, b: 12 }, hovermode: "x unified",
      hoverlabel: { bgcolor: "--card", bordercolor: "--line", font: { color: "--ink" } },
      legend: { orientation: "h", traceorder: "normal", x: 0, xanchor: "left", y: 1.03,
                yanchor: "bottom", font: { size: 12, color: "--ink" } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: "--faint", activecolor: "--ink" },
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    };
    const legend = spec.layout.showlegend ?? (spec.data.length > 1 && spec.data[0].type !== "box");
    base.showlegend = legend;
    base.margin.t = (legend ? 40 : 8) + (spec.moments.length ? 14 : 0);
    if (spec.moments.length) base.legend.y = 1.08;
    const all = merge(base, spec.layout);
    for (const key of Object.keys(all)) {
      if (/^[xy]axis/.test(key)) all[key] = merge(axis, all[key]);
    }
    all.xaxis = all.xaxis || axis;
    all.yaxis = all.yaxis || axis;
    if (spec.moments.length) Object.assign(all, marks(spec.moments));
    return all;
  };

  const draw = id => {
    const style = getComputedStyle(root), spec = specs[id];
    Plotly.react(plots.get(id), paint(spec.data, style), paint(layout(spec), style), {
      responsive: true, displaylogo: false,
      displayModeBar: matchMedia("(hover: hover)").matches ? "hover" : false,
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
    });
    drawn.add(id);
  };

  const hidden = id => document.getElementById(id).closest("details:not([open])");

  const rest = () => {
    const next = figures.map(f => f.id).find(id => !drawn.has(id) && !hidden(id));
    if (next === undefined) { document.body.setAttribute("aria-busy", "false"); return; }
    draw(next);
    setTimeout(rest, 0);
  };

  const redraw = () => drawn.forEach(draw);

  const show = () => {
    const id = decodeURIComponent(location.hash.slice(1));
    const changed = new Set([shown, id]);
    const target = id && document.getElementById(id);
    shown = id;
    if (target) {
      for (let box = target.closest("details"); box; box = box.parentElement.closest("details")) {
        box.open = true;
      }
    }
    let first = true;
    for (const [name, spec] of Object.entries(specs)) {
      const mine = spec.moments.filter(each => changed.has(each.anchor));
      if (!mine.length) continue;
      if (!hidden(name)) draw(name);
      if (first && mine.some(each => each.anchor === id)) {
        first = false;
        document.getElementById(name).scrollIntoView({ block: "center" });
      }
    }
  };

  const start = () => {
    show();
    rest();
    addEventListener("hashchange", show);
    document.addEventListener("click", event => {
      const link = event.target.closest && event.target.closest("a[href^='#']");
      if (link && decodeURIComponent(link.hash.slice(1)) === shown) setTimeout(show, 0);
    });
    document.querySelectorAll("details").forEach(box => box.addEventListener("toggle", () => {
      if (box.open) { document.body.setAttribute("aria-busy", "true"); rest(); }
    }));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    addEventListener("beforeprint", () => {
      root.classList.add("printing");
      document.querySelectorAll("details.node, details.price").forEach(box => { box.open = true; });
      figures.forEach(f => {
        const plot = plots.get(f.id);
        if (hidden(f.id)) return;
        draw(f.id);
        Plotly.relayout(plot, { width: Math.min(680, plot.clientWidth || 680) });
      });
    });
    addEventListener("afterprint", () => {
      root.classList.remove("printing");
      redraw();
    });
  };

  const unpack = async () => {
    const packed = document.getElementById("plotly");
    const bytes = Uint8Array.from(atob(packed.textContent), each => each.charCodeAt(0));
    packed.remove();
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  };

  if (!figures.length) document.body.setAttribute("aria-busy", "false");
  else if (!("DecompressionStream" in window)) root.classList.add("unavailable");
  else unpack().then(start);
})();
