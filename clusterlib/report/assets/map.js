// The map: points as pixels of one ImageData, pictures from the atlases when few enough are in view.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("points").textContent);
  const decode = (text) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return new Uint16Array(bytes.buffer);
  };
  const X = decode(data.x), Y = decode(data.y), CLUSTER = decode(data.cluster), LABEL = decode(data.label);
  const N = X.length, NONE = 65535, CELLS = 256;
  const canvas = document.getElementById("map"), stage = document.getElementById("stage");
  const context = canvas.getContext("2d", { alpha: false });
  const hover = document.getElementById("hover"), picture = document.getElementById("hover-picture");
  const colorBy = document.getElementById("color"), only = document.getElementById("only");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let view = { scale: 1, x: 0, y: 0 }; // screen = (map - offset) * scale, in device pixels
  let width = 0, height = 0, image = null, pixels = null, ids = null, pending = false, ratio = 1;

  // ---- an index: points by cell of a 128 x 128 grid
  const GRID = 128, SHIFT = 9;
  const start = new Uint32Array(GRID * GRID + 1), members = new Uint32Array(N);
  const cellOf = (i) => (Y[i] >> SHIFT) * GRID + (X[i] >> SHIFT);
  for (let i = 0; i < N; i++) start[cellOf(i) + 1]++;
  for (let c = 0; c < GRID * GRID; c++) start[c + 1] += start[c];
  const next = start.slice();
  for (let i = 0; i < N; i++) members[next[cellOf(i)]++] = i;

  // ---- colours: hues a golden angle apart
  const hsl = (h, s, l) => {
    const f = (n) => {
      const k = (n + h / 30) % 12;
      return Math.round(255 * (l - s * Math.min(l, 1 - l) * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
    };
    return (255 << 24) | (f(4) << 16) | (f(8) << 8) | f(0);
  };
  let colors = new Uint32Array(N), background = 0, faint = 0;
  const paint = () => {
    const isDark = dark.matches;
    background = isDark ? 0xff141110 : 0xffffffff;
    faint = isDark ? 0xff35302d : 0xffe6e3e2;
    const values = colorBy.value === "label" ? LABEL : CLUSTER;
    const chosen = only.value === "" ? -1 : Number(only.value);
    const table = new Map();
    for (let i = 0; i < N; i++) {
      const value = values[i];
      let color = table.get(value);
      if (color === undefined) {
        const hue = (value * 137.508) % 360, turn = Math.floor(value / 12) % 3;
        color = value === NONE ? (isDark ? 0xff777777 : 0xffaaaaaa)
          : hsl(hue, 0.62 - 0.1 * turn, (isDark ? 0.64 : 0.47) + 0.07 * (turn - 1)) >>> 0;
        table.set(value, color);
      }
      colors[i] = chosen >= 0 && CLUSTER[i] !== chosen ? faint : color;
    }
  };

  // ---- view
  // A few far points must not squeeze all others: they count only as far as they cost little room.
  const span = (values) => {
    const sorted = Uint16Array.from(values).sort(), last = N - 1;
    const low = sorted[Math.floor(0.002 * last)], high = sorted[Math.ceil(0.998 * last)];
    const room = 0.15 * Math.max(high - low, 1);
    return [Math.max(sorted[0], low - room), Math.min(sorted[last], high + room)];
  };
  const [x0, x1] = span(X), [y0, y1] = span(Y);
  const fit = () => {
    const margin = 0.04;
    const scale = Math.min(width / Math.max(x1 - x0, 1), height / Math.max(y1 - y0, 1)) * (1 - 2 * margin);
    view = { scale, x: (x0 + x1) / 2 - width / scale / 2, y: (y0 + y1) / 2 - height / scale / 2 };
    smallest = Math.min(scale, width / 65535, height / 65535) / 2;
  };
  let smallest = 0;
  const resize = () => {
    const first = width === 0, middle = [view.x + width / view.scale / 2, view.y + height / view.scale / 2];
    ratio = Math.min(devicePixelRatio || 1, 2);
    width = canvas.width = Math.max(1, Math.round(stage.clientWidth * ratio));
    height = canvas.height = Math.max(1, Math.round(stage.clientHeight * ratio));
    image = context.createImageData(width, height);
    pixels = new Uint32Array(image.data.buffer);
    if (first) fit();
    else { view.x = middle[0] - width / view.scale / 2; view.y = middle[1] - height / view.scale / 2; }
    later();
  };
  const zoom = (factor, px = width / 2, py = height / 2) => {
    const scale = Math.min(Math.max(view.scale * factor, smallest), 8);
    view.x += px / view.scale - px / scale;
    view.y += py / view.scale - py / scale;
    view.scale = scale;
    later();
  };
  const pan = (dx, dy) => { view.x -= dx / view.scale; view.y -= dy / view.scale; later(); };

  // ---- drawing
  const atlases = new Map();
  const atlas = (number) => {
    let found = atlases.get(number);
    if (!found) {
      found = new Image();
      found.onload = later;
      found.src = `map/atlas-${String(number).padStart(4, "0")}.webp`;
      atlases.set(number, found);
    }
    return found;
  };
  const visible = [];
  const collect = (limit) => {
    visible.length = 0;
    const c0 = Math.max(0, Math.floor(view.x) >> SHIFT), r0 = Math.max(0, Math.floor(view.y) >> SHIFT);
    const c1 = Math.min(GRID - 1, Math.floor(view.x + width / view.scale) >> SHIFT);
    const r1 = Math.min(GRID - 1, Math.floor(view.y + height / view.scale) >> SHIFT);
    for (let r = r0; r <= r1; r++) for (let c = c0; c <= c1; c++) {
      const cell = r * GRID + c;
      for (let m = start[cell]; m < start[cell + 1]; m++) {
        if (visible.length >= limit) return false;
        const i = members[m], px = (X[i] - view.x) * view.scale, py = (Y[i] - view.y) * view.scale;
        if (px >= -32 && py >= -32 && px < width + 32 && py < height + 32) visible.push(i);
      }
    }
    return true;
  };
  const dots = (size) => {
    pixels.fill(background);
    const half = size >> 1, ox = view.x, oy = view.y, s = view.scale;
    const right = width - size, bottom = height - size;
    for (let i = 0; i < N; i++) {
      const px = ((X[i] - ox) * s - half) | 0, py = ((Y[i] - oy) * s - half) | 0;
      if (px < 0 || py < 0 || px >= right || py >= bottom) continue;
      const color = colors[i];
      for (let row = 0, at = py * width + px; row < size; row++, at += width)
        for (let column = 0; column < size; column++) pixels[at + column] = color;
    }
    context.putImageData(image, 0, 0);
  };
  const pictures = () => {
    const space = Math.sqrt((width * height) / Math.max(visible.length, 1));
    const side = Math.max(22 * ratio, Math.min(space * 0.72, 84 * ratio));
    const taken = new Set(), grid = side * 0.8;
    let drawn = 0;
    for (const i of visible) {
      if (i >= data.pictures || colors[i] === faint) continue;
      const px = (X[i] - view.x) * view.scale, py = (Y[i] - view.y) * view.scale;
      const place = Math.floor(px / grid) * 65536 + Math.floor(py / grid);
      if (taken.has(place)) continue; // the dot of what lies below stays
      const source = atlas(Math.floor(i / CELLS));
      if (!source.complete || !source.naturalWidth) continue;
      taken.add(place);
      const cell = i % CELLS, left = Math.round(px - side / 2), top = Math.round(py - side / 2);
      const color = colors[i];
      context.fillStyle = `rgb(${color & 255},${(color >> 8) & 255},${(color >> 16) & 255})`;
      context.fillRect(left - ratio, top - ratio, side + 2 * ratio, side + 2 * ratio);
      context.drawImage(source, (cell % 16) * 64, (cell >> 4) * 64, 64, 64, left, top, side, side);
      drawn++;
    }
    return drawn;
  };
  const draw = () => {
    pending = false;
    const few = collect((width * height) / (20 * ratio) ** 2);
    dots(Math.max(2, Math.round((N > 30000 ? 2 : N > 4000 ? 3 : 5) * ratio * (few ? 1.4 : 1))));
    const drawn = few && data.pictures ? pictures() : 0;
    canvas.dataset.pictures = drawn;
    if (!canvas.dataset.painted) canvas.dataset.painted = performance.now().toFixed(0);
  };
  const later = () => { if (!pending) { pending = true; requestAnimationFrame(draw); } };

  // ---- what is under the pointer
  const nearest = (px, py) => {
    const mx = px / view.scale + view.x, my = py / view.scale + view.y;
    const reach = (14 * ratio) / view.scale + 1;
    let best = -1, least = reach * reach;
    const clamp = (v) => Math.min(GRID - 1, Math.max(0, Math.floor(v) >> SHIFT));
    for (let r = clamp(my - reach); r <= clamp(my + reach); r++)
      for (let c = clamp(mx - reach); c <= clamp(mx + reach); c++) {
        const cell = r * GRID + c;
        for (let m = start[cell]; m < start[cell + 1]; m++) {
          const i = members[m], d = (X[i] - mx) ** 2 + (Y[i] - my) ** 2;
          if (d <= least && colors[i] !== faint) { least = d; best = i; }
        }
      }
    return best;
  };
  const show = (i, px, py) => {
    hover.hidden = i < 0;
    canvas.style.cursor = i < 0 ? "crosshair" : "pointer";
    if (i < 0) return;
    ids ||= JSON.parse(document.getElementById("ids").textContent);
    document.getElementById("hover-cluster").textContent = CLUSTER[i] === NONE ? "noise" : data.names[CLUSTER[i]] || `Cluster ${CLUSTER[i]}`;
    document.getElementById("hover-label").textContent = LABEL[i] === NONE ? "" : data.labels[LABEL[i]];
    document.getElementById("hover-id").textContent = ids[i] || "";
    const has = i < data.pictures;
    picture.parentElement.hidden = !has;
    if (has) {
      const cell = i % CELLS;
      picture.src = `map/atlas-${String(Math.floor(i / CELLS)).padStart(4, "0")}.webp`;
      picture.style.left = `${-100 * (cell % 16)}%`;
      picture.style.top = `${-100 * (cell >> 4)}%`;
    }
    const x = px / ratio, y = py / ratio;
    hover.style.left = `${Math.max(0, Math.min(x + 16, stage.clientWidth - hover.offsetWidth - 8))}px`;
    hover.style.top = `${Math.max(0, y + 16 + hover.offsetHeight > stage.clientHeight ? y - hover.offsetHeight - 12 : y + 16)}px`;
  };
  const open = (i) => {
    if (i >= 0 && CLUSTER[i] !== NONE) location.href = `clusters/${String(CLUSTER[i]).padStart(5, "0")}.html`;
  };

  // ---- input
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
  };
  const down = new Map();
  let travelled = 0;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, at(event));
    if (down.size === 1) travelled = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const here = at(event), before = down.get(event.pointerId);
    if (!before) { show(nearest(...here), ...here); return; }
    if (down.size === 2) {
      const other = [...down].find(([id]) => id !== event.pointerId)[1];
      const was = Math.hypot(before[0] - other[0], before[1] - other[1]);
      zoom(Math.hypot(here[0] - other[0], here[1] - other[1]) / Math.max(was, 1), (here[0] + other[0]) / 2, (here[1] + other[1]) / 2);
    } else pan(here[0] - before[0], here[1] - before[1]);
    travelled += Math.hypot(here[0] - before[0], here[1] - before[1]);
    down.set(event.pointerId, here);
    hover.hidden = true;
  });
  const up = (event) => {
    const was = down.delete(event.pointerId);
    if (was && event.type === "pointerup" && travelled < 5 * ratio) {
      const here = at(event), i = nearest(...here);
      // A finger has no hover: its first tap shows the card, a second one opens the cluster.
      if (event.pointerType === "touch" && hover.dataset.point !== String(i)) show(i, ...here);
      else open(i);
      hover.dataset.point = i;
    }
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("pointerleave", () => { hover.hidden = true; });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    hover.hidden = true;
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0018)), ...at(event));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const step = 60 * ratio, middle = [width / 2, height / 2];
    const act = {
      ArrowLeft: () => pan(step, 0), ArrowRight: () => pan(-step, 0),
      ArrowUp: () => pan(0, step), ArrowDown: () => pan(0, -step),
      "+": () => zoom(1.4), "=": () => zoom(1.4), "-": () => zoom(1 / 1.4),
      0: () => { fit(); later(); }, Enter: () => open(central()),
    }[event.key];
    if (!act || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    act();
    if (event.key !== "Enter") show(central(), ...middle);
  });
  const central = () => {
    let best = -1, least = Infinity;
    const mx = width / 2 / view.scale + view.x, my = height / 2 / view.scale + view.y;
    for (let i = 0; i < N; i++) {
      const d = (X[i] - mx) ** 2 + (Y[i] - my) ** 2;
      if (d < least) { least = d; best = i; }
    }
    return best;
  };
  document.getElementById("in").addEventListener("click", () => zoom(1.6));
  document.getElementById("out").addEventListener("click", () => zoom(1 / 1.6));
  document.getElementById("reset").addEventListener("click", () => { fit(); later(); });
  for (const select of [colorBy, only]) select.addEventListener("change", () => { paint(); later(); });
  dark.addEventListener("change", () => { paint(); later(); });
  new ResizeObserver(resize).observe(stage);
  paint();
  resize();
  // What a test or a curious reader may ask: where a point lies on the screen, and the view.
  window.clusterMap = {
    place: (i) => [((X[i] - view.x) * view.scale) / ratio, ((Y[i] - view.y) * view.scale) / ratio],
    cluster: (i) => CLUSTER[i], zoom, pan, draw, count: N,
  };
})();
