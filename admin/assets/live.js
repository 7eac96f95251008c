"use strict";
// Follows /events. The page is complete without it, and only stands still.
(function () {
  const span = 300; // seconds on the chart
  const $ = (id) => document.getElementById(id);
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  let rates = [];
  let second = 0;
  let pointed = null; // index into the chart under the pointer

  const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
  const tenth = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
  const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
  const number = (v) => (v < 10 ? tenth : whole).format(v);

  function duration(s) {
    if (s === null) return "–";
    if (s < 1e-3) return Math.round(s * 1e6) + " µs";
    if (s < 1) return (s * 1e3).toPrecision(s < 1e-2 ? 2 : 3) + " ms";
    return s.toFixed(2) + " s";
  }

  function age(s) {
    if (s < 60) return s + " s";
    if (s < 3600) return Math.floor(s / 60) + " min";
    if (s < 86400) return Math.floor(s / 3600) + " h " + Math.floor((s % 3600) / 60) + " min";
    return Math.floor(s / 86400) + " d " + Math.floor((s % 86400) / 3600) + " h";
  }

  // ceiling is the next round number whose half is round too.
  function ceiling(v) {
    if (v <= 2) return 2;
    const p = 10 ** Math.floor(Math.log10(v));
    return [1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10].find((m) => m * p >= v) * p;
  }

  function draw() {
    const n = rates.length;
    const top = ceiling(Math.max(0, ...rates));
    $("top").textContent = short.format(top);
    $("middle").textContent = short.format(top / 2);
    if (n === 0) return;
    const x = (i) => span - n + i;
    const y = (v) => (99 - (v / top) * 98).toFixed(2); // on the page's grid: 99, 50 and 1
    const points = rates.map((v, i) => x(i) + " " + y(v));
    $("line").setAttribute("d", "M" + points.join("L"));
    $("area").setAttribute("d", "M" + x(0) + " 99L" + points.join("L") + "L" + x(n - 1) + " 99Z");
    point();
  }

  // slide moves the new point in from the right within its second.
  function slide() {
    if (calm.matches) return;
    $("moving").animate([{ transform: "translateX(1px)" }, { transform: "none" }], 1000);
  }

  // point shows the value under the pointer, or the latest.
  function point() {
    const n = rates.length;
    const i = pointed === null ? n - 1 : pointed - (span - n);
    const there = pointed !== null && i >= 0 && i < n;
    $("cursor").toggleAttribute("hidden", !there);
    const ago = n - 1 - i;
    $("when").textContent = there && ago > 0 ? (ago < 60 ? ago + " s ago" : Math.floor(ago / 60) + " min " + (ago % 60) + " s ago") : "now";
    if (there) {
      $("cursor").setAttribute("x1", pointed);
      $("cursor").setAttribute("x2", pointed);
    }
    if (n > 0) $("rate").textContent = number(rates[there ? i : n - 1]);
  }

  const plot = document.querySelector(".plot");
  plot.addEventListener("pointermove", (e) => {
    const box = plot.getBoundingClientRect();
    pointed = Math.max(0, Math.min(span - 1, Math.round(((e.clientX - box.left) / box.width) * (span - 1))));
    point();
  });
  plot.addEventListener("pointerleave", () => { pointed = null; point(); });

  function link(text) {
    document.body.classList.toggle("stale", text !== "");
    $("link").textContent = text;
    $("link").hidden = text === "";
  }

  function onHello(h) {
    for (const id of ["engine", "store", "version"]) $(id).textContent = h[id];
    rates = h.rates;
    second = h.second;
    draw();
  }

  function onState(s) {
    if ($("count").textContent !== s.count) {
      $("count").textContent = s.count;
      $("count").style.setProperty("--digits", s.count.length);
    }
    document.body.classList.toggle("down", !s.up && !s.draining);
    document.body.classList.toggle("draining", s.draining);
    $("up").textContent = s.draining ? "stopping" : s.up ? "up" : "down";
    $("trouble").textContent = s.draining ? "" : s.trouble;
    $("open").textContent = whole.format(s.open);
    $("p50").textContent = duration(s.p50);
    $("p99").textContent = duration(s.p99);
    $("batch").textContent = s.batch === null ? "–" : number(s.batch);
    $("uptime").textContent = age(s.uptime);
    if (s.second <= second) return; // already in the history
    second = s.second;
    rates.push(s.rate);
    if (rates.length > span) rates.shift();
    draw();
    slide();
  }

  function follow() {
    const events = new EventSource("/events");
    events.addEventListener("hello", (e) => onHello(JSON.parse(e.data)));
    events.addEventListener("state", (e) => { link(""); onState(JSON.parse(e.data)); });
    events.onerror = () => {
      link("no connection, trying again …");
      // The browser retries by itself after a cut, not after an answer like 503.
      if (events.readyState === EventSource.CLOSED) setTimeout(follow, 3000);
    };
  }

  draw();
  follow();
})();
