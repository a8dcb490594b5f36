// ---- words

let language = (navigator.language || "en").startsWith("ko") ? "ko" : "en";
const say = (en, ko) => language === "ko" ? ko : en;
const state = { word: 0, temperature: 1, top_k: 0, top_p: 1, find: "", drawn: [] };
let live = null;  // what server.js can do; a file has no server to ask

function start() {  // where a new sentence is opened: at the head that has most to tell
  const effects = texts.length ? texts[0].effects : [[0]];
  const best = Math.max(...effects.flat());
  const block = effects.findIndex((row) => row.includes(best));
  [state.block, state.head] = DATA.lecture ? DATA.lecture.head : [block, effects[block].indexOf(best)];
  state.tokens = words.length ? [...words[0].at] : texts.map((text) => text.ids.length - 1);
  Object.assign(state, { word: 0, find: "", drawn: [] });
}
start();

const toBytes = (id) => Uint8Array.from(vocab[id], (c) => c.charCodeAt(0));
const hex = (id) => [...toBytes(id)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
function decoded(bytes) {  // text, or null where a character is not whole
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch { return null; }
}
const mostlyBytes = (t) => 2 * texts[t].ids.filter((id) => decoded(toBytes(id)) === null).length > texts[t].ids.length;
const plain = (id) => decoded(toBytes(id)) ?? "<" + hex(id) + ">";  // half a character as its bytes
function visible(id) {
  return plain(id).replace(/ /g, "␣").replace(/\n/g, "⏎").replace(/\t/g, "⇥")
    .replace(/[\u0000-\u001f\u007f-\u009f]/g, (c) => "\\x" + c.charCodeAt(0).toString(16).padStart(2, "0"));
}
const tokenAt = (t, i) => visible(texts[t].ids[i]);

const SVG = ["svg", "path", "text", "line", "circle", "rect", "g", "title"];
const MATH = ["math", "mrow", "mi", "mn", "mo", "mtext", "msub", "msup", "mfrac", "msqrt", "munder"];
function wordsOf(t) {  // the tokens one by one, but those that hold parts of characters together
  const words = [];
  let places = [], bytes = [];
  texts[t].ids.forEach((id, i) => {
    if (!places.length && decoded(toBytes(id)) !== null) { words.push({ text: visible(id), places: [i] }); return; }
    places.push(i);
    bytes.push(...toBytes(id));
    const next = texts[t].ids[i + 1];
    if (next !== undefined && decoded(toBytes(next)) === null) return;
    words.push({ text: decoded(Uint8Array.from(bytes)) ?? "…", places });
    places = [], bytes = [];
  });
  return words;
}

function el(tag, attributes = {}, ...children) {
  const space = SVG.includes(tag) ? "2000/svg" : MATH.includes(tag) ? "1998/Math/MathML" : "1999/xhtml";
  const node = document.createElementNS(`http://www.w3.org/${space}`, tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") node.style.cssText = value;  // an attribute would be barred by the page's policy
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}
const $ = (id) => document.getElementById(id);

// ---- the parts of a step

function src(module, name, start, n) {  // page.py reads these calls and puts the lines in
  return { name, at: DATA.source[[module, name, start, n].join("|")] };
}

function vec(label, { values, norm, dim }, kind = "") {
  const top = Math.max(...values.map(Math.abs)) || 1;
  return el("div", { class: "vec " + kind, "data-vec": label },
    el("div", { class: "say" }, el("b", {}, label),
      el("span", {}, say("norm ", "노름 "), el("span", { class: "num", "data-norm": "" }, format(norm))),
      el("span", {}, values.length < dim ? say(`first ${values.length} of ${dim}`, `${dim}개 중 처음 ${values.length}개`)
        : say(`${dim} components`, `성분 ${dim}개`))),
    el("ol", { class: "cells num", "aria-label": say(`components of ${label}`, `${label}의 성분`) },
      [...values].map((value) => el("li", { style:
        `--tint: var(${value < 0 ? "--neg" : "--pos"}); --a: ${(Math.abs(value) / top).toFixed(3)}` },
        format(value)))));
}
const op = (sign) => el("div", { class: "op", "aria-hidden": "true" }, sign);

function shade(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }
const known = new Map();
function channels(colour) {  // of #rrggbb, 0 to 255
  if (!known.has(colour)) known.set(colour, [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16)));
  return known.get(colour);
}
function mix(from, to, a) {
  const [p, q] = [channels(from), channels(to)];
  return "#" + [0, 1, 2].map((i) => Math.round(p[i] * (1 - a) + q[i] * a).toString(16).padStart(2, "0")).join("");
}
function luminance(colour) {  // WCAG's relative luminance
  const [r, g, b] = channels(colour).map((c) => c / 255).map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function readable(fill, ...inks) {  // the ink that stands out most
  const contrast = (ink) => ((a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05))(luminance(fill), luminance(ink));
  return inks.sort((a, b) => contrast(b) - contrast(a))[0];
}

function bar(name, a, text, options = {}) {
  return el("li", { class: options.on ? "on" : options.out ? "out" : null, "data-bar": options.key },
    options.act || el("span", { class: "tok" }, name),
    el("span", { class: "bar", style: `--a: ${a.toFixed(4)}; --w: ${(options.was || 0).toFixed(4)}` },
      el("i"), options.was === undefined ? null : el("span", { class: "was" })),
    el("span", { class: "num" }, text), options.extra);
}

const scrolled = (label, ...children) => el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": label }, children);
const column = (name) => el("th", { scope: "col" }, name);
const jump = (to, attributes, ...children) => el("a", { href: `#s-${to}`, ...attributes }, children);
