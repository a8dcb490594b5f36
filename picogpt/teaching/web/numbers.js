"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);
const { config, vocab } = DATA;
let { texts, words } = DATA;
const outputMatrix = config.tie_word_embeddings ? "wte" : "lm_head";
const SIGNS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const CODE = new Uint8Array(128);
[...SIGNS].forEach((sign, i) => { CODE[sign.charCodeAt(0)] = i; });

// ---- numbers: record.py's pack, the other way round

function unpack([signs, low, step], from, to, nSigns) {
  const values = new Float64Array(to - from);
  for (let i = from; i < to; i++) {
    let steps = 0;
    for (let j = i * nSigns; j < (i + 1) * nSigns; j++) steps = steps * 64 + CODE[signs.charCodeAt(j)];
    values[i - from] = low + step * steps;
  }
  return values;
}

const DIMS = { q: "head", k: "head", v: "head", heads: "head", c_fc: "inner", act: "inner" };
const dim = (name) => ({ head: config.n_embd / config.n_head, inner: config.d_inner })[DIMS[name]]
  || config.n_embd;

function vector(place, name, row) {  // the first components of a vector, and its norm
  const width = Math.min(16, dim(name)), [shown, norms] = place[name];
  return { values: unpack(shown, row * width, (row + 1) * width, 3),
    norm: unpack(norms, row, row + 1, 4)[0], dim: dim(name) };
}

const inBlock = (t, name, token, head) =>
  vector(texts[t].blocks[state.block], name, (head === undefined ? 0 : head * texts[t].ids.length) + token);

function softmaxRows(masked, n) {
  const weights = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    const row = masked.subarray(i * n, i * n + n), top = Math.max(...row);
    const e = row.map((s) => Math.exp(s - top)), sum = e.reduce((a, b) => a + b);
    e.forEach((x, j) => { weights[i * n + j] = x / sum; });
  }
  return weights;
}

function attentionOf(t, block, head) {  // one head's matrices, each row after row
  const n = texts[t].ids.length, packed = texts[t].blocks[block].scores[head];
  const scores = unpack(packed, 0, n * n, packed[0].length / (n * n));
  const scaled = scores.map((s) => s * config.scales[block]);
  const masked = scaled.map((s, i) => i % n > Math.floor(i / n) ? s - 1e10 : s);
  return { scores, scaled, masked, weights: softmaxRows(masked, n) };
}

const kept = new Map();
function attention(t, step) {  // the picked head's matrix at a step
  const key = [t, state.block, state.head].join();
  if (!kept.has(key)) {
    if (kept.size > 8) kept.clear();
    kept.set(key, attentionOf(t, state.block, state.head));
  }
  return kept.get(key)[step];
}

function format(x, long = false) {  // three or four figures, and no -0.00
  if (x <= -1e9) return "−1e10";
  const size = Math.abs(x);
  const text = size.toFixed(long && size < 0.1 ? 4 : size >= 100 ? 0 : size >= 10 ? 1 : 2);
  return (x < 0 && Number(text) !== 0 ? "−" : "") + text;
}
function percent(p) {
  const sign = language === "ko" ? "%" : " %";
  if (p >= 0.0995) return (100 * p).toFixed(1) + sign;
  if (p >= 0.00001) return (100 * p).toPrecision(2) + sign;
  return p === 0 ? "0" + sign : "<0.001" + sign;
}
const count = (n) => n.toLocaleString("en-US");
