// tokenizer_text.mjs BYTES >FILE: mixed text of about BYTES bytes, the same on every machine.
// Italian, English, Chinese, Japanese, other scripts, code, emoji, digits, runs of spaces and
// newlines, drawn from words and sentences written for this purpose by a seeded generator.
const want = Number(process.argv[2] ?? 1000000);
let seed = 20260501;
function draw(n) {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) % n;
}
const pick = (list) => list[draw(list.length)];

const it = ["Il battello lasciò il molo prima dell'alba e nessuno se ne accorse.",
  "Perché l'officina è chiusa? Il fabbro è salito al rifugio con due muli.",
  "«Non c'è fretta», disse la nonna, e rimise il caffè sul fuoco.",
  "Le somme vanno fatte nello stesso ordine, altrimenti l'ultima cifra cambia.",
  "Città, virtù, perciò, così: quattro accenti e un po' di pazienza.",
  "Costa 12,50 € al chilo, ma di giovedì scende a 9,80 €.",
  "Quest'anno l'uva è maturata tardi; la vendemmia comincerà il 28 settembre.",
  "Chi ha spento la luce del corridoio? Io no, rispose il gatto (pressappoco)."];
const en = ["The ferry kept its timetable even when the river did not.",
  "She didn't ask why; they'd've told her anyway, and it's late.",
  "A rounding error is small until it is copied forty-three times.",
  "Nobody reads the log until the log is the only thing left to read.",
  "It rained on the observatory, so we measured the roof instead of the stars.",
  "I'll say it once more: the sum is the same, the order is not."];
const zh = ["老船长把地图折好，放进了外套的口袋。", "今天的数据和昨天不一样，原因还没有找到。",
  "他说：“先量三次，再剪一次。”", "山上的雪化了以后，小路就能走了！",
  "第3层第128个通道的误差是0.0007。", "你喝茶还是咖啡？都可以，谢谢。",
  "圖書館在車站的對面，走五分鐘就到。", "机器没有坏，只是累了……"];
const ja = ["古い時計は五分だけ遅れている。", "コーヒーを飲みながら、ログを読みました。",
  "「順番を変えると、答えも変わるよ」と彼女は言った。", "カタカナとひらがなと漢字が混ざった文です。",
  "データベースのバックアップは、毎晩2時に始まります。", "雨の日は屋根の音を聞くのが好きだ〜。",
  "ﾊﾝｶｸも少しだけ。", "それは『偶然』ではなく、丸めの誤差だ！？"];
const other = ["Поезд пришёл на восемь минут раньше расписания.", "Η σειρά των προσθέσεων αλλάζει το άθροισμα.",
  "القطار يصل في الساعة ٧ مساءً.", "הסדר קובע, אמרה המורה.", "순서가 바뀌면 합도 바뀐다. 괜찮아요?",
  "क्रम बदलने से योग बदल जाता है।", "ลำดับมีผลต่อผลรวมเสมอ", "Thứ tự thay đổi thì tổng cũng thay đổi.",
  "Große Straße, süßes Öl, naïve façade, Ångström.", "Cafe\u0301 e\u0301te\u0301: accents that combine."];
const code = ["for (int i = 0; i < n_tok; i++) {\n    sum += x[i] * w[i];\n}\n",
  "if (st != DS4_OK) goto out;  /* one label */\n",
  "def mean(xs):\n\treturn sum(xs) / max(1, len(xs))  # empty is 0\n",
  "SELECT name, count(*) AS n FROM taps WHERE layer >= 3 GROUP BY name;\n",
  "const f = (a, b) => ({ ...a, [b.key]: b.value ?? null });\n",
  "<div class=\"row\" data-id='42'>&nbsp;&lt;empty&gt;</div>\n",
  "printf(\"%-8s|%5.2f%%\\n\", name, 100.0 * p);\n", "x = a->b[c]::d << 2 | ~e ^ 0xDEADBEEF;\n",
  "#include <stdio.h>\r\nint main(void) { return 0; }\r\n",
  "https://example.org/a_b-c/d.html?q=1&r=%20#top\n", "fn main() -> Result<(), Box<dyn Error>> {\n        Ok(())\n}\n",
  "| layer | max_abs |\n|------:|--------:|\n|     3 |  1.5e-7 |\n", "$ grep -rn 'TRY(' engine | wc -l\n",
  "\\begin{equation}\n  y_i = \\sum_{j=0}^{n-1} W_{ij}\\,x_j\n\\end{equation}\n"];
const emoji = ["🙂", "🚀🚀", "👩‍🔬", "🏳️‍🌈", "👍🏽", "🇮🇹🇯🇵", "❤️", "☕", "✅", "🧑🏿‍🤝‍🧑🏻", "1️⃣", "➡️", "🫠", "™", "½", "④", "…", "—", "→", "€", "№"];
const digit = () => Array.from({ length: 1 + draw(12) }, () => draw(10)).join("");
const numbers = () => pick([digit(), `${digit()}.${digit()}`, `-${digit()}e-${draw(40)}`, `0x${digit()}ff`,
  `${draw(28) + 1}/${draw(12) + 1}/20${10 + draw(90)}`, `${draw(24)}:${10 + draw(50)}`, "١٢٣٤٥", "１２３４", "Ⅻ", `v${draw(9)}.${draw(20)}.${draw(9)}`]);
const runs = () => pick([" ", "  ", "\n", "\t"]).repeat(1 + draw(pick([3, 3, 3, 70])));
const breaks = () => pick(["\n", "\n\n", "\r\n", "\n\n\n\n", " \n", "  \n  ", "\t\n", "\n\n  ", "\u3000", "\u00a0", "\u2003 "]);
const identifiers = () => pick(["ds4_", "n_", "max", "_", "get", "Tap"]) + pick(["row", "Layer", "abs", "ULP", "tok", "X"]) +
  pick(["", "_f32", "2", "Count", "_", "()", "[i]", "::new", ".h"]);

const parts = [() => pick(it), () => pick(it), () => pick(en), () => pick(zh), () => pick(zh), () => pick(ja), () => pick(ja),
  () => pick(other), () => pick(code), () => pick(code), () => pick(emoji), numbers, runs, breaks, identifiers];
const out = [];
let n = 0;
while (n < want) {
  const s = pick(parts)() + pick(["", " ", " ", " ", "\n", ", "]);
  out.push(s);
  n += Buffer.byteLength(s);
}
process.stdout.write(out.join(""));
