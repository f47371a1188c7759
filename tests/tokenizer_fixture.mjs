// tokenizer_fixture.mjs DIR: writes the small vocabularies of fixtures/vectors/tokenizer and their
// cases into DIR. Run it where @lenml/tokenizers can be imported; its encoder gives the ids.
import fs from "node:fs";
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import path from "node:path";
import { written, random } from "./tokenizer_cases.mjs";

const { TokenizerLoader } = createRequire(path.resolve("package.json"))("@lenml/tokenizers");
const here = path.dirname(new URL(import.meta.url).pathname);
const dir = process.argv[2];

// One printable character for each byte.
const printable = [];
for (let b = 0, next = 256; b < 256; b++)
  printable.push(String.fromCharCode((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174 ? b : next++));
const mapped = (s) => [...Buffer.from(s)].map((b) => printable[b]).join("");

// Merges: again and again the commonest pair of the pieces, of equals the first in code point order.
function train(pieces, n) {
  const words = new Map();
  for (const p of pieces) words.set(p, (words.get(p) ?? 0) + 1);
  const list = [...words].map(([w, k]) => [[...mapped(w)], k]);
  const merges = [];
  while (merges.length < n) {
    const count = new Map();
    for (const [w, k] of list)
      for (let i = 0; i + 1 < w.length; i++) {
        const key = w[i] + " " + w[i + 1];
        count.set(key, (count.get(key) ?? 0) + k);
      }
    const [best] = [...count].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))[0];
    merges.push(best);
    const [l, r] = best.split(" ");
    for (const [w] of list)
      for (let i = 0; i + 1 < w.length; i++) if (w[i] === l && w[i + 1] === r) w.splice(i, 2, l + r);
  }
  return merges;
}

// Merges of the last byte of one character and the first of another: wherever no cut lies between
// two such characters, they show in the ids.
function across() {
  const sample = ["a", "Z", "é", "1", "１", "中", "の", "ж", ".", "'", "_", "…", "，", "€", "🙂", " ", "\n", "\r", "\t", "\u00a0", "\u3000", "\u0301", "\ufeff", "\u0085"];
  const list = new Set();
  for (const a of sample)
    for (const b of sample) list.add(printable[Buffer.from(a).at(-1)] + " " + printable[Buffer.from(b)[0]]);
  return [...list];
}

const published = [
  "\\p{N}{1,3}",
  "[一-龥぀-ゟ゠-ヿ]+",
  "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
];
const split = (pattern) => ({ type: "Split", pattern, behavior: "Isolated", invert: false });
const bytes = (use_regex) => ({ type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex });
const specials = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"];
const added = ["<｜User｜>", "<｜Assistant｜>", "<think>", "</think>", "｜DSML｜", "<dsml:", "</dsml:", "<|EOT|>", "<|EOT", "<｜città é｜>"];
// Without a fullwidth bar a GGUF reads these as bytes: one of the vocabularies has them.
const odd = ["a b", "naïve!"];

// form: merges as strings or as pairs; the specials first, then bytes, merges, added tokens.
function make(pretokenizers, merges, form, ignore_merges, extra, added) {
  const vocab = {};
  let n = 0;
  for (const s of specials) vocab[s] = n++;
  for (const c of printable) vocab[c] = n++;
  for (const m of merges) vocab[m.replace(" ", "")] ??= n++;
  for (const s of extra) vocab[mapped(s)] ??= n++;
  const token = (content, id, special) => ({ id, content, single_word: false, lstrip: false, rstrip: false, normalized: !special, special });
  return {
    version: "1.0", truncation: null, padding: null,
    added_tokens: [...specials.map((s) => token(s, vocab[s], true)), ...added.map((s) => token(s, n++, false))],
    normalizer: { type: "Sequence", normalizers: [] },
    pre_tokenizer: pretokenizers.length > 1 ? { type: "Sequence", pretokenizers } : pretokenizers[0],
    post_processor: { type: "ByteLevel", add_prefix_space: true, trim_offsets: false, use_regex: true },
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: "BPE", dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null,
      fuse_unk: false, byte_fallback: false, ignore_merges, vocab, merges: merges.map((m) => (form === "pairs" ? m.split(" ") : m)) },
  };
}

const text = execFileSync("node", [path.join(here, "tokenizer_text.mjs"), "60000"]).toString();
const pieces = text.match(new RegExp(published.join("|"), "gu"));
const list = {
  // The published patterns.
  published: make([...published.map((p) => split({ Regex: p })), bytes(false)], [...new Set([...train(pieces, 380), ...across()])], "strings", false, [], added),
  // Everything else that is read: a literal, counts, escapes, both look-aheads, ByteLevel's own pattern.
  other: make([split({ String: "==" }), split({ Regex: "x{2}|y{2,}(?=\\x2e)|\\u4e2d+(?!\\p{N})|[^\\P{Z}\\t]{3}|\\S{40,41}" }), bytes(true)],
    [...new Set([...train(text.match(/ ?\p{L}+|\s+|[^\s\p{L}]+/gu), 250), ...across()])], "pairs", true, [" timetable", "noorder", "日本", "zzzz", "    "], [...added, ...odd]),
  // ByteLevel alone.
  bytelevel: make([bytes(true)], train(text.match(/ ?\p{L}+/gu), 40), "strings", false, [], added),
};

const texts = [...written, ...random(160), "xxx yy. yyy.. yyz 中中1 中中a \u00a0\u2003\u3000 =====", " timetable timetables noorder 日本語 zzzzz     x", "<|EOT<|EOT|>x<｜città é｜>", "naïve! a b  a  ba b"];
for (const [name, json] of Object.entries(list)) {
  const config = { tokenizer_class: "PreTrainedTokenizer" };
  const full = TokenizerLoader.fromPreTrained({ tokenizerJSON: json, tokenizerConfig: config });
  const plain = TokenizerLoader.fromPreTrained({ tokenizerJSON: { ...json, added_tokens: [] }, tokenizerConfig: config });
  const cases = texts.map((s) => [s, plain.encode(s), full.encode(s)]);
  fs.writeFileSync(path.join(dir, `${name}.json`), JSON.stringify(json) + "\n");
  fs.writeFileSync(path.join(dir, `${name}.cases.json`), "[\n" + cases.map((c) => JSON.stringify(c)).join(",\n") + "\n]\n");
}
