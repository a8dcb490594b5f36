// ---- words

let language = (navigator.language || "en").startsWith("ko") ? "ko" : "en";
const say = (en, ko) => language === "ko" ? ko : en;
const state = { block: 0, head: 0, tokens: texts.map((text) => text.ids.length - 1), word: 0,
  temperature: 1, top_k: 0, top_p: 1, find: "", drawn: [] };
if (words.length) state.tokens = [...words[0].at];

const toBytes = (id) => Uint8Array.from(vocab[id], (c) => c.charCodeAt(0));
const hex = (id) => [...toBytes(id)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
function plain(id) {  // a token as text; half a character as its bytes
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(toBytes(id));
  } catch { return "<" + hex(id) + ">"; }
}
function visible(id) {
  return plain(id).replace(/ /g, "␣").replace(/\n/g, "⏎").replace(/\t/g, "⇥")
    .replace(/[\u0000-\u001f\u007f-\u009f]/g, (c) => "\\x" + c.charCodeAt(0).toString(16).padStart(2, "0"));
}
const tokenAt = (t, i) => visible(texts[t].ids[i]);

function el(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "text", "line", "circle", "g", "title"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") node.style.cssText = value;
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
    el("span", { class: "tok" }, name),
    el("span", { class: "bar", style: `--a: ${a.toFixed(4)}; --w: ${(options.was || 0).toFixed(4)}` },
      el("i"), options.was === undefined ? null : el("span", { class: "was" })),
    el("span", { class: "num" }, text));
}
