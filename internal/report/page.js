'use strict';
(() => {
  const tip = document.getElementById('tip');
  const live = document.getElementById('live');
  document.documentElement.classList.add('js');

  function show(text, x, y) {
    tip.textContent = text;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = Math.min(Math.max(x - box.width / 2, 6), innerWidth - box.width - 6);
    const top = y - box.height - 12 > 0 ? y - box.height - 12 : y + 18;
    tip.style.left = left + 'px';
    tip.style.top = top + 'px';
  }
  const hide = () => { tip.hidden = true; };

  for (const plot of document.querySelectorAll('.plot')) {
    if (!plot.dataset.zoom) columns(plot); else timeline(plot);
    plot.addEventListener('pointerleave', hide);
    plot.addEventListener('blur', hide);
  }
  addEventListener('scroll', hide, { passive: true });

  // Columns: the pointer or the arrow keys select a column.
  function columns(plot) {
    const hits = [...plot.querySelectorAll('.hit')];
    let at = -1;
    const mark = (i) => {
      if (hits[at]) hits[at].classList.remove('on');
      at = i;
      if (hits[at]) hits[at].classList.add('on');
    };
    plot.addEventListener('pointermove', (e) => {
      const text = e.target.dataset && e.target.dataset.t;
      if (text) show(text, e.clientX, e.clientY); else hide();
    });
    plot.addEventListener('blur', () => mark(-1));
    plot.addEventListener('keydown', (e) => {
      const next = { ArrowRight: at + 1, ArrowLeft: at < 0 ? hits.length - 1 : at - 1, Home: 0, End: hits.length - 1 }[e.key];
      if (e.key === 'Escape') { mark(-1); hide(); }
      if (next === undefined || !hits.length) return;
      e.preventDefault();
      mark(Math.min(Math.max(next, 0), hits.length - 1));
      const box = hits[at].getBoundingClientRect();
      show(hits[at].dataset.t, box.left + box.width / 2, box.top + 20);
      live.textContent = hits[at].dataset.t;
    });
  }

  // Timeline: the view is the range [from, from + width] of the 1000 units of the chart.
  function timeline(plot) {
    const segments = JSON.parse(plot.dataset.zoom);
    const shapes = plot.querySelector('.shapes');
    const below = plot.querySelector('.below');
    const initial = below.innerHTML;
    const height = shapes.viewBox.baseVal.height;
    let from = 0, width = 1000, drag = null;

    const timeAt = (x) => {
      for (const [t0, t1, x0, x1] of segments) if (x <= x1) return t0 + (t1 - t0) * Math.max(x - x0, 0) / (x1 - x0);
      return segments[segments.length - 1][1];
    };
    const text = (t, step) => {
      const iso = new Date(t).toISOString();
      return step < 1000 ? iso.slice(11, 23) : step < 60000 ? iso.slice(11, 19) : step < 86400000 ? iso.slice(11, 16) : iso.slice(0, 10);
    };
    const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 108e5, 216e5, 432e5, 864e5];

    function draw() {
      shapes.setAttribute('viewBox', `${from} 0 ${width} ${height}`);
      if (width === 1000) { below.innerHTML = initial; return; }
      below.replaceChildren();
      const apart = 1000 / Math.max(Math.floor(below.clientWidth / 105), 2);
      let last = -Infinity, date = '';
      for (const [t0, t1, x0, x1] of segments) {
        const perUnit = (t1 - t0) / (x1 - x0);
        const want = perUnit * apart * width / 1000;
        const step = steps.find((s) => s >= want) || Math.ceil(want / 864e5) * 864e5;
        const first = Math.max(t0, t0 + (from - x0) * perUnit), end = Math.min(t1, t0 + (from + width - x0) * perUnit);
        for (let t = Math.ceil(first / step) * step; t <= end; t += step) {
          const x = (x0 + (t - t0) / perUnit - from) / width * 1000;
          if (x < last + apart * 0.8 || x > 1000) continue;
          last = x;
          label(x / 10, 13, text(t, step));
          const d = new Date(t).toISOString().slice(0, 10);
          if (d !== date && step < 864e5) label(x / 10, 27, d);
          date = d;
        }
      }
    }
    function label(x, y, s) {
      const e = document.createElementNS('http://www.w3.org/2000/svg', 'text');
      e.setAttribute('x', x + '%');
      e.setAttribute('y', y);
      e.setAttribute('class', 'tick');
      e.setAttribute('text-anchor', x < 4 ? 'start' : x > 96 ? 'end' : 'middle');
      e.textContent = s;
      below.append(e);
    }
    function view(f, w) {
      width = Math.min(Math.max(w, 0.02), 1000);
      from = Math.min(Math.max(f, 0), 1000 - width);
      hide();
      draw();
    }
    const zoom = (factor, center = from + width / 2) => view(center - (center - from) * factor, width * factor);
    const move = (part) => view(from + width * part, width);
    const announce = () => { live.textContent = `From ${new Date(timeAt(from)).toISOString().slice(0, 19)} to ${new Date(timeAt(from + width)).toISOString().slice(0, 19)} UTC`; };
    const actions = { in: () => zoom(0.5), out: () => zoom(2), left: () => move(-0.3), right: () => move(0.3), all: () => view(0, 1000) };
    for (const b of plot.parentElement.querySelectorAll('[data-do]')) b.addEventListener('click', () => { actions[b.dataset.do](); announce(); });
    plot.addEventListener('keydown', (e) => {
      const name = { '+': 'in', '=': 'in', '-': 'out', ArrowLeft: 'left', ArrowRight: 'right', 0: 'all', Escape: 'all' }[e.key];
      if (!name || e.ctrlKey || e.metaKey || e.altKey) return;
      e.preventDefault();
      actions[name]();
      announce();
    });
    const position = (e) => {
      const box = shapes.getBoundingClientRect();
      return from + (e.clientX - box.left) / box.width * width;
    };
    shapes.addEventListener('wheel', (e) => {
      if (!e.ctrlKey && !e.shiftKey) return;
      e.preventDefault();
      zoom(Math.exp((e.deltaY || e.deltaX) * 0.002), position(e));
    }, { passive: false });
    shapes.addEventListener('dblclick', (e) => zoom(0.4, position(e)));
    shapes.addEventListener('pointerdown', (e) => { drag = { x: e.clientX, from }; });
    addEventListener('pointerup', () => { drag = null; });
    addEventListener('pointercancel', () => { drag = null; });
    shapes.addEventListener('pointermove', (e) => {
      if (drag && e.buttons) {
        view(drag.from - (e.clientX - drag.x) / shapes.getBoundingClientRect().width * width, width);
        return;
      }
      const row = e.target.closest('[data-l]');
      if (!row) { hide(); return; }
      const own = e.target.dataset;
      const time = new Date(timeAt(position(e))).toISOString().slice(0, 19).replace('T', ' ');
      show(own.t ? `${own.t} (${row.dataset.l})` : `${row.dataset.l}, ${time} UTC: ${own.v}`, e.clientX, e.clientY);
    });
  }
})();
