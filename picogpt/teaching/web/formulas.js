// ---- formulas, in MathML, with the lecture's letters

function math(parts) {  // strings become numbers, names or signs; arrays are rows
  const node = (part) => {
    if (Array.isArray(part)) return el("mrow", {}, part.map(node));
    if (typeof part !== "string") return part;
    if (/^[0-9.]+$/.test(part)) return el("mn", {}, part);
    return /^[\p{L}]+$/u.test(part) ? el("mi", {}, part) : el("mo", { stretchy: "false" }, part);
  };
  return node(parts);
}
const sub = (base, below) => el("msub", {}, math(base), math(below));
const sup = (base, above) => el("msup", {}, math(base), math(above));
const frac = (above, below) => el("mfrac", {}, math(above), math(below));
const root = (inside) => el("msqrt", {}, math(inside));
const sumOver = (index) => el("munder", {}, math("∑"), math(index));
const named = (name) => el("mtext", {}, name);  // a name as the code has it

const transposed = (letter) => sup(letter, "T");
const scoreOf = () => ["Q", transposed("K")];
const scaledScore = () => frac(scoreOf(), root([sub("d", "k")]));
const norm = (x) => ["LN", "(", x, ")"];

const FORMULAS = {  // a function each: a node can stand in one place only
  way: () => [sub("x", ["k", "+", "1"]), "=", sub(named("block"), "k"), "(", sub("x", "k"), ")", ",", sub("x", "0"), "=", named("wte"), "+", named("wpe")],
  tokens: () => [sub("t", "1"), ",", "…", ",", sub("t", "n"), "=", named("BPE"), "(", named("UTF-8"), "(", named("text"), ")", ")"],
  embed: () => [sub("x", "i"), "=", named("wte"), "[", sub("t", "i"), "]", "+", named("wpe"), "[", "i", "]"],
  norm: () => [norm("x"), "=", "g", "⊙", frac(["x", "−", "μ"], root([sup("σ", "2"), "+", "ε"])), "+", "b"],
  qkv: () => ["Q", "=", "X", sub("W", "Q"), ",", "K", "=", "X", sub("W", "K"), ",", "V", "=", "X", sub("W", "V")],
  scores: () => [scoreOf()],
  scaled: () => [scaledScore()],
  masked: () => [scaledScore(), "+", "M"],
  weights: () => ["A", "=", named("softmax"), "(", scaledScore(), "+", "M", ")"],
  heads: () => [named("softmax"), "(", scaledScore(), "+", "M", ")", "V"],
  joined: () => ["[", sub("head", "1"), "…", sub("head", "h"), "]", sub("W", "O"), "+", sub("b", "O")],
  x_mid: () => [sub("x", named("mid")), "=", "x", "+", named("MHA"), "(", norm("x"), ")"],
  ffn: () => [named("FFN"), "(", "x", ")", "=", named("act"), "(", "x", sub("W", "1"), "+", sub("b", "1"), ")", sub("W", "2"), "+", sub("b", "2")],
  y: () => ["y", "=", sub("x", named("mid")), "+", named("FFN"), "(", norm(sub("x", named("mid"))), ")"],
  word: () => ["cos", "θ", "=", frac(["a", "·", "b"], ["|", "a", "|", "|", "b", "|"])],
  lens: () => ["p", "=", named("softmax"), "(", norm(sub("x", named("block"))), transposed(named(outputMatrix)), ")"],
  loss: () => ["L", "=", "−", frac("1", ["n", "−", "1"]), sumOver("i"), "log", "p", "(", sub("t", ["i", "+", "1"]), "|", sub("t", "1"), "…", sub("t", "i"), ")"],
  next: () => [sub("p", "i"), "=", frac([sup("e", [sub("z", "i"), "/", "T"])], [sumOver("j"), sup("e", [sub("z", "j"), "/", "T"])])],
  cross: () => [named("Attention"), "(", sub("X", "1"), sub("W", "Q"), ",", sub("X", "2"), sub("W", "K"), ",", sub("X", "2"), sub("W", "V"), ")"],
  change: () => [named("head"), "←", "0", ",", sub("y", "i"), "←", sub(["y", "′"], "j")],
  "learn-loss": () => ["L", "=", "−", frac("1", ["n", "−", "1"]), sumOver("i"), "log", "p", "(", sub("t", ["i", "+", "1"]), "|", sub("t", "1"), "…", sub("t", "i"), ")"],
  "learn-gradient": () => [frac(["∂", "L"], ["∂", "W"]), "=", transposed("x"), frac(["∂", "L"], ["∂", "y"]), ",", "y", "=", "x", "W", "+", "b"],
  "learn-check": () => [frac(["∂", "L"], ["∂", "w"]), "≈", frac(["L", "(", "w", "+", "h", ")", "−", "L", "(", "w", "−", "h", ")"], ["2", "h"])],
  "learn-step": () => ["w", "←", "(", "1", "−", "η", "λ", ")", "w", "−", "η", frac(named("m̂"), [root([named("v̂")]), "+", "ε"])],
  "learn-more": () => [sub("w", ["k", "+", "1"]), "=", named("AdamW"), "(", sub("w", "k"), ",", "∇", "L", "(", sub("w", "k"), ")", ")"],
};
const formula = (id) => FORMULAS[id] ? el("math", { display: "block", "data-formula": id }, math(FORMULAS[id]())) : null;
