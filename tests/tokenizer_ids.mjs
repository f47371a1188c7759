// tokenizer_ids.mjs DIR: the published tokenizer and what its own encoder makes of texts, into DIR:
//   tokenizer.json, mixed.txt (1 MB of mixed text), mixed.ids (its ids, one a line), cases.json
//   (strings with their ids as plain text and with added tokens), points.txt and points.ids (every
//   code point in turn; only where this JavaScript engine has Unicode 17).
// Run it where @lenml/tokenizer-deepseek_v4 can be imported.
import fs from "node:fs";
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import path from "node:path";
import { written, random } from "./tokenizer_cases.mjs";

const require = createRequire(path.resolve("package.json"));
const { fromPreTrained } = require("@lenml/tokenizer-deepseek_v4");
const here = path.dirname(new URL(import.meta.url).pathname);
const dir = process.argv[2];
const save = (name, data) => fs.writeFileSync(path.join(dir, name), data);

const json = fs.readFileSync(require.resolve("@lenml/tokenizer-deepseek_v4/models/tokenizer.json"));
const full = fromPreTrained();
const plain = fromPreTrained({ tokenizerJSON: { added_tokens: [] } });
const lines = (ids) => ids.join("\n") + "\n";
save("tokenizer.json", json);

const text = execFileSync("node", [path.join(here, "tokenizer_text.mjs"), "1000000"], { maxBuffer: 1 << 24 }).toString();
const start = process.hrtime.bigint();
const ids = full.encode(text);
const seconds = Number(process.hrtime.bigint() - start) / 1e9;
save("mixed.txt", text);
save("mixed.ids", lines(ids));
console.log(`the package: ${(Buffer.byteLength(text) / seconds / 1e6).toFixed(2)} MB/s`);

// Pieces of the vocabulary itself, so that every token is met.
const met = [];
for (let i = 0; i < 129280; i += 20) {
  const s = full.decode(Array.from({ length: Math.min(20, 129280 - i) }, (_, k) => i + k));
  met.push(s);
}
const cases = [...written, ...random(4000, 11), ...met].map((s) => [s, plain.encode(s), full.encode(s)]);
save("cases.json", "[\n" + cases.map((c) => JSON.stringify(c)).join(",\n") + "\n]\n");

if (process.versions.unicode === "17.0") {
  let points = "";
  for (let c = 1; c < 0x110000; c++) {
    if (c >= 0xd800 && c < 0xe000) continue;
    points += String.fromCodePoint(c);
    if (c % 7 === 0) points += " ";
    if (c % 11 === 0) points += "\n";
    if (c % 13 === 0) points += "x";
  }
  save("points.txt", points);
  save("points.ids", lines(full.encode(points)));
}
