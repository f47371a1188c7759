// Writes engine/format/unicode.c from the Unicode data of this JavaScript engine; with --check,
// compares instead (exit status 1 when they differ, 77 when this engine has another version).
import fs from "node:fs";

const path = "engine/format/unicode.c";
const version = process.versions.unicode;
const major = ["L", "M", "N", "P", "S", "Z", "C"]; // the order of enum ds4_category
const is = major.map((c) => new RegExp(`^\\p{${c}}$`, "u"));
const range = [];
let last = -1;
for (let c = 0; c < 0x110000; c++) {
  const s = String.fromCodePoint(c);
  const k = is.findIndex((r) => r.test(s));
  if (k !== last) range.push((c * 8 + k).toString(16));
  last = k;
}
let text = `/* Made by tests/tokenizer_unicode.mjs from Unicode ${version}; not edited by hand.
 * The data: Unicode Character Database, property General_Category. Copyright (c) 1991-2025
 * Unicode, Inc., Unicode License v3, https://www.unicode.org/license.txt */
#include "engine/format/unicode.h"

const uint32_t ds4_unicode_range[] = {
`;
let line = "   ";
for (const r of range) {
  const item = ` 0x${r},`;
  if (line.length + item.length > 96) (text += line + "\n"), (line = "   ");
  line += item;
}
text += line.replace(/,$/, "};") + `
const uint32_t ds4_unicode_n_range = ${range.length};
const char ds4_unicode_version[] = "${version}";
`;
if (process.argv[2] === "--check") {
  const have = fs.readFileSync(path, "utf8");
  const found = /ds4_unicode_version\[\] = "([^"]*)"/.exec(have)[1];
  if (found !== version) {
    console.log(`SKIPPED: this engine has Unicode ${version}, ${path} has ${found}`);
    process.exit(77);
  }
  const data = (s) => s.replace(/\s+/g, " ");
  if (data(have) !== data(text)) {
    console.error(`${path} is not what Unicode ${version} gives`);
    process.exit(1);
  }
} else fs.writeFileSync(path, text);
