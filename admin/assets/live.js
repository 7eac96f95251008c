"use strict";
// Follows /events. The page is complete without it, and only stands still.
(function () {
  const span = 300; // seconds on the charts
  const silence = 4000; // ms without a word until the connection counts as lost
  const $ = (id) => document.getElementById(id);
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  let history = []; // a sample for each second, the latest last
  let time = 0; // of the latest, by the server's clock
  let second = -1; // its number
  let latest = null; // state
  let pointed = null; // place on the charts under the pointer

  // ---- words

  const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
  const tenth = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
  const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
  const number = (v) => (v < 10 ? tenth : whole).format(v);

  function duration(s) {
    if (s === null || s === undefined) return "–";
    if (s < 0.9995e-3) return Math.round(s * 1e6) + " µs";
    if (s < 0.9995) return (s * 1e3).toPrecision(s < 1e-2 ? 2 : 3) + " ms";
    return s.toFixed(2) + " s";
  }

  function age(s) {
    s = Math.max(0, Math.round(s));
    if (s < 60) return s + " s";
    if (s < 3600) return Math.floor(s / 60) + " min " + (s % 60) + " s";
    if (s < 86400) return Math.floor(s / 3600) + " h " + Math.floor((s % 3600) / 60) + " min";
    return Math.floor(s / 86400) + " d " + Math.floor((s % 86400) / 3600) + " h";
  }

  function since(unix, now) {
    const at = new Date(unix * 1000);
    const day = now - unix < 43200 ? "" : at.toLocaleDateString() + " ";
    return "since " + day + at.toLocaleTimeString() + " · for " + age(now - unix);
  }

  function text(element, value) {
    if (element.textContent !== value) element.textContent = value;
  }

  // ---- charts

  const svg = (name, attributes) => {
    const e = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
    return e;
  };

  const charts = [...document.querySelectorAll(".plot")].map((plot) => {
    const keys = plot.dataset.lines.split(" ");
    const log = "log" in plot.dataset;
    const root = svg("svg", { viewBox: "0 0 299 100", preserveAspectRatio: "none", role: "img", "aria-label": plot.dataset.label });
    const grid = svg("g", {});
    const moving = svg("g", {});
    const bands = svg("g", {});
    moving.append(bands);
    const lines = keys.map((key) => {
      const line = { key, path: svg("path", { class: "line " + key }), area: null };
      if (!log) moving.append((line.area = svg("path", { class: "area " + key })));
      moving.append(line.path);
      return line;
    });
    const cursor = svg("line", { class: "cursor", y1: 0, y2: 100, hidden: "" });
    root.append(grid, moving, cursor);
    plot.append(root);
    plot.addEventListener("pointermove", (e) => {
      const box = root.getBoundingClientRect();
      pointed = Math.max(0, Math.min(span - 1, Math.round(((e.clientX - box.left) / box.width) * (span - 1))));
      point();
    });
    plot.addEventListener("pointerleave", () => { pointed = null; point(); });
    return { plot, log, grid, moving, bands, lines, cursor, ticks: "" };
  });

  // ceiling is the next round number whose half is round too.
  function ceiling(v) {
    if (v <= 2) return 2;
    const p = 10 ** Math.floor(Math.log10(v));
    return [1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10].find((m) => m * p >= v) * p;
  }

  // scaleOf returns where a value stands on a chart, from 99 at the bottom to 1 at
  // the top, and which values have a line of the grid.
  function scaleOf(chart) {
    const values = chart.lines.flatMap(({ key }) => history.map((s) => s[key])).filter((v) => typeof v === "number");
    if (!chart.log) {
      const top = ceiling(Math.max(0, ...values));
      const quiet = !values.some((v) => v > 0);
      const ticks = quiet ? [0] : chart.plot.closest(".low") ? [0, top] : [0, top / 2, top];
      return { y: (v) => 99 - (v / top) * 98, ticks, label: (v) => short.format(v), quiet };
    }
    if (values.length === 0) return { y: () => 99, ticks: [], label: () => "", quiet: true };
    const low = Math.floor(Math.log10(Math.min(...values)));
    const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values))));
    const ticks = [];
    for (let i = low; i <= high; i++) ticks.push(10 ** i);
    if (ticks.length === 2) ticks.push(2 * ticks[0], 5 * ticks[0]);
    return { y: (v) => 99 - ((Math.log10(v) - low) / (high - low)) * 98, ticks, label: tick, quiet: false };
  }

  // tick is a duration that is round.
  const tick = (s) => (s > 0.9 ? Math.round(s) + " s" : s > 0.9e-3 ? Math.round(s * 1e3) + " ms" : Math.round(s * 1e6) + " µs");

  function drawGrid(chart, scale) {
    const ticks = scale.ticks.map((v) => [scale.y(v).toFixed(2), scale.label(v)]);
    if (String(ticks) === chart.ticks) return;
    chart.ticks = String(ticks);
    chart.grid.replaceChildren(...ticks.map(([y]) => svg("line", { class: "grid", x1: 0, x2: 299, y1: y, y2: y })));
    for (const old of chart.plot.querySelectorAll(".scale")) old.remove();
    for (const [y, label] of ticks) {
      const mark = document.createElement("span");
      mark.className = "scale";
      mark.style.top = y + "%";
      mark.textContent = label;
      chart.plot.append(mark);
    }
  }

  // runs returns [first, last] of each run of samples for which ok holds.
  function runs(ok) {
    const all = [];
    history.forEach((s, i) => {
      if (!ok(s)) return;
      const run = all[all.length - 1];
      if (run && run[1] === i - 1) run[1] = i;
      else all.push([i, i]);
    });
    return all;
  }

  function draw() {
    const x = (i) => span - history.length + i;
    const band = (kind) => runs((s) => s[kind]).map(([a, b]) => ({ class: kind, x: x(a) - 0.5, width: b - a + 1, y: 0, height: 100 }));
    const bands = [...band("down"), ...band("gone")];
    $("marksDown").hidden = !history.some((s) => s.down);
    $("marksGone").hidden = !history.some((s) => s.gone);
    for (const chart of charts) {
      const scale = scaleOf(chart);
      drawGrid(chart, scale);
      chart.plot.classList.toggle("quiet", scale.quiet);
      chart.bands.replaceChildren(...bands.map((b) => svg("rect", b)));
      for (const { key, path, area } of chart.lines) {
        const stretches = runs((s) => typeof s[key] === "number").map(([a, b]) => {
          const points = [];
          for (let i = a; i <= b; i++) points.push(x(i) + " " + scale.y(history[i][key]).toFixed(2));
          return { a, b, d: points.join("L") };
        });
        path.setAttribute("d", stretches.map((s) => "M" + s.d + (s.a === s.b ? "h0" : "")).join(""));
        if (area) area.setAttribute("d", stretches.map((s) => "M" + x(s.a) + " 99L" + s.d + "L" + x(s.b) + " 99Z").join(""));
      }
    }
    point();
  }

  // slide moves the new point in from the right within its second.
  function slide() {
    if (calm.matches || document.hidden) return;
    for (const { moving } of charts) moving.animate([{ transform: "translateX(1px)" }, { transform: "none" }], 1000);
  }

  // point shows the values under the pointer, or the latest.
  function point() {
    const n = history.length;
    const i = pointed === null ? n - 1 : pointed - (span - n);
    const there = pointed !== null && i >= 0 && i < n;
    for (const { cursor } of charts) {
      cursor.toggleAttribute("hidden", !there);
      if (there) for (const end of ["x1", "x2"]) cursor.setAttribute(end, pointed);
    }
    const ago = there ? "· " + new Date((time - (n - 1 - i)) * 1000).toLocaleTimeString() : "";
    for (const when of document.querySelectorAll(".when")) text(when, ago);
    const s = history[there ? i : n - 1];
    if (!s) return;
    const rate = (v) => (v === undefined ? "–" : number(v));
    text($("rate"), rate(s.hits));
    text($("unavailable"), rate(s.unavailable));
    text($("refused"), rate(s.refused));
    const spread = there || !latest ? s : latest; // of seconds: one alone would flicker
    text($("p50"), duration(spread.p50));
    text($("p99"), duration(spread.p99));
  }

  // ---- what is wrong

  function alarm(a) {
    const box = document.createElement("section");
    box.className = "alarm " + a.level;
    for (const [name, kind, value] of [["h2", "", a.title], ["p", "since", ""], ["p", "words", a.words], ["p", "clients", a.clients]]) {
      const line = document.createElement(name);
      line.className = kind;
      line.textContent = value;
      if (kind === "since") line.setAttribute("aria-live", "off"); // it changes every second
      box.append(line);
    }
    return box;
  }

  let alarmsShown = null;
  function showAlarms(alarms, now) {
    const key = JSON.stringify(alarms);
    if (key !== alarmsShown) {
      alarmsShown = key;
      $("alarms").replaceChildren(...alarms.map(alarm));
    }
    document.querySelectorAll("#alarms .since").forEach((line, i) => text(line, since(alarms[i].since, now)));
    if (alarms.length > 0) tab(alarms[0].tab, "-" + alarms[0].level);
    else tab("", "");
  }

  function tab(what, icon) {
    const title = (what ? what + " · " : "") + "counterd";
    if (document.title !== title) document.title = title;
    if ($("icon").getAttribute("href") !== "/icon" + icon + ".svg") $("icon").href = "/icon" + icon + ".svg";
  }

  // Kept for when there is nobody to ask.
  for (const icon of ["", "-warn", "-bad", "-lost"]) new Image().src = "/icon" + icon + ".svg";

  let lostAt = null; // by this browser's clock
  function lost() {
    if (lostAt === null) {
      lostAt = Date.now();
      const wasStopping = latest && latest.draining;
      $("lost").replaceChildren(alarm({
        level: "lost",
        title: "No connection to counterd",
        words: wasStopping ? "It was stopping when the connection ended." : "It is down, restarting, or out of reach from here.",
        clients: "What you see below is the last that was known. This page tries again every second.",
      }));
      $("alarms").hidden = true;
      document.body.classList.add("stale");
      $("up").className = "lost";
      text($("up"), "no connection");
      tab("no connection", "-lost");
    }
    text(document.querySelector("#lost .since"), since(Math.floor(lostAt / 1000), Date.now() / 1000));
  }

  function found() {
    if (lostAt === null) return;
    lostAt = null;
    $("lost").replaceChildren();
    $("alarms").hidden = false;
    document.body.classList.remove("stale");
  }

  // ---- counters

  // exact keeps counts that a number of JavaScript can't hold, where the browser
  // shows what stood in the text.
  const exact = (key, v, context) => (key === "count" && typeof v === "number" && context && context.source ? BigInt(context.source) : v);
  const find = $("find"); // null: there is one counter
  let seen = new Map(); // name → what it was when it was last listed
  let topList = null;
  let finding = false;
  let timer = 0;

  // visible shows what would change the direction of the text around it, or nothing.
  const visible = (name) => name.replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));

  function row(c, most) {
    const li = document.createElement("li");
    const name = document.createElement("bdi");
    name.textContent = visible(c.name);
    name.title = visible(c.name) + (c.encoded ? " (not UTF-8, so percent-encoded)" : "");
    name.classList.toggle("encoded", c.encoded === true);
    const bar = document.createElement("i");
    bar.style.width = (most > 0 ? (100 * (c.rate || 0)) / most : 0) + "%";
    const rate = document.createElement("span");
    rate.className = "rate";
    rate.textContent = c.rate === null ? "–" : number(c.rate);
    const count = document.createElement("span");
    count.textContent = whole.format(c.count);
    li.append(name, rate, count, bar);
    return li;
  }

  function showCounters(list, nothing) {
    const now = performance.now();
    const before = seen;
    seen = new Map();
    for (const c of list) {
      const old = before.get(c.name);
      // The same list may come twice at once.
      if (old && now - old.at < 500) {
        c.rate = old.rate;
        seen.set(c.name, old);
        continue;
      }
      c.rate = old ? Math.max(0, Number(BigInt(c.count) - BigInt(old.count))) / ((now - old.at) / 1000) : null;
      seen.set(c.name, { count: c.count, at: now, rate: c.rate });
    }
    const most = Math.max(0, ...list.map((c) => c.rate || 0));
    const head = document.createElement("li");
    head.className = "head";
    for (const title of ["name", "per second", "count"]) {
      const cell = document.createElement(title === "name" ? "b" : "span");
      cell.textContent = title;
      cell.style.fontWeight = "normal";
      head.append(cell);
    }
    $("counters").replaceChildren(...(list.length > 0 ? [head] : []), ...list.map((c) => row(c, most)));
    text($("listTrouble"), list.length > 0 ? "" : nothing);
  }

  function onTop(top) {
    topList = top;
    const refused = top.refused > 0 ? " · " + whole.format(top.refused) + " hits on new names refused" : "";
    text($("names"), "· " + whole.format(top.names) + " of " + whole.format(top.most) + refused);
    if (find.value !== "") return;
    if (top.trouble) text($("listTrouble"), "They can't be listed: " + top.trouble);
    else showCounters(top.counters, "None yet. The first hit on a path makes its counter.");
  }

  // look lists what begins as the field says, one list at a time, and again as long
  // as something stands in it; a slow one less often.
  async function look() {
    clearTimeout(timer);
    const prefix = find.value;
    if (prefix === "") {
      if (topList) onTop(topList);
      return;
    }
    if (finding) return; // it looks again when it is done
    finding = true;
    const begin = performance.now();
    if (!document.hidden && lostAt === null) {
      try {
        const answer = await fetch("/counters?" + new URLSearchParams({ order: "count", limit: 10, prefix }), { signal: AbortSignal.timeout(15000) });
        const body = await answer.text();
        if (find.value === prefix) {
          if (answer.ok) showCounters(JSON.parse(body, exact).counters, "No counter begins with that.");
          else text($("listTrouble"), body.trim() + ", trying again …");
        }
      } catch (e) {
        if (find.value === prefix) text($("listTrouble"), "no answer, trying again …");
      }
    }
    finding = false;
    if (find.value !== prefix) look();
    else timer = setTimeout(look, Math.max(2000, 20 * (performance.now() - begin)));
  }

  if (find) {
    find.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(look, 150);
    });
  }

  // ---- the stream

  function onHello(h) {
    // The server has another page than this one. Behind a balancer two may take
    // turns: then not all the time.
    if (h.page !== document.documentElement.dataset.page && performance.now() > 10000) location.reload();
    for (const id of ["engine", "store", "version"]) text($(id), h[id]);
    // What another process has shown before stays, with a gap where nobody was.
    const between = h.time - h.history.length - time;
    const older = history.slice(0, Math.max(0, history.length + Math.min(0, between)));
    const gap = history.length > 0 ? Math.max(0, Math.min(span, between)) : 0;
    history = [...older, ...Array.from({ length: gap }, () => ({ gone: true })), ...h.history].slice(-span);
    time = h.time;
    second = h.second;
    draw();
  }

  function onState(s) {
    latest = s;
    if ($("count").textContent !== s.count) {
      $("count").textContent = s.count;
      $("grouped").textContent = whole.format(BigInt(s.count));
      document.querySelector(".total").style.setProperty("--digits", s.count.length);
    }
    showAlarms(s.alarms, s.time);
    $("up").className = s.draining ? "warn" : s.up ? "good" : "bad";
    text($("up"), s.draining ? "stopping" : s.up ? "up" : "down");
    text($("open"), whole.format(s.open));
    text($("maxConns"), whole.format(s.maxConns));
    text($("batch"), s.batch === null ? "–" : number(s.batch));
    text($("uptime"), age(s.uptime));
    if (s.second <= second) return; // already in the history
    second = s.second;
    time = s.time;
    history.push(s.last);
    if (history.length > span) history.shift();
    draw();
    slide();
  }

  // follow opens the stream, and again whenever it ends or falls silent.
  function follow() {
    const events = new EventSource("/events");
    let heard = Date.now();
    const on = (name, f, revive) => events.addEventListener(name, (e) => {
      heard = Date.now();
      found();
      f(JSON.parse(e.data, revive));
    });
    on("hello", onHello);
    on("state", onState);
    if (find) on("top", onTop, exact);
    const again = () => {
      clearInterval(watch);
      events.close();
      lost();
      setTimeout(follow, 1000);
    };
    const watch = setInterval(() => {
      if (lostAt !== null) lost();
      if (Date.now() - heard > silence) again();
    }, 500);
    events.onerror = again;
  }

  draw();
  follow();
})();
