// Strings on which tokenizers part ways, and seeded random ones. Characters are at most of Unicode
// 15, so that any JavaScript engine of today classes them alike.
export function draws(seed) {
  return (n) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % n;
  };
}

export const written = [
  " ", "  ", "   ", "\n", "\n\n", "\r\n", "\r", "\n\r\n \n", "\t", "\t\t", " \t \n\t ", "\0", "\0\0a", "\x01\x02", "\x7f",
  "a", " a", "  a", "\na", "\n a", " \n a", "a ", "a  ", "a \n", "a\n ", "    int x", ");\n\n  y", "x  1", " 1", "  1",
  "1", "12", "123", "1234", "1234567", "12 345", "1.5e-10", "１２３４", "١٢٣٤", "²³¹", "½¾", "Ⅻ", "①②③④", "一二三四", "a1b22c333d4444",
  "abc中文", "中文abc", "中文123", "123中文", "中文，中文。", "ひらカタ漢é", "ﾊﾝｶｸ", "龥龦", "㐀一", "〇々〆", "゠ー・", "한국어 조사", "　全角　空白　",
  ".abc", "..abc", ".abcé", ".é", "a.b", "a_b", "_a", "__init__", "!!!", "! !", "!\n\n", " !\n", "!?\r\n\r\nx", "...\n...", "$10", "€10", "a+b=c", "+=-=*=",
  "don't", "DON'T", "l'alba", "l’alba", "'s's's", "they'd've", "«ciao»", "“quoted”", "—dash—", "…", "a…b", "¿Qué?", "¡Olé!",
  "Cafe\u0301", "e\u0301\u0301", "\u0301", "\u0301a", "!\u0301", " \u0301", "क्षत्रिय", "กำลัง", "a\u200db", "a\u200bb", "\u200b\u200b", "\ufe0f",
  "😀", "😀a", "a😀", "😀😀", "👩‍🔬", "🏳️‍🌈x", "🇮🇹🇯🇵", "1️⃣", "❤️", "™", "a™b", "\u{1d400}\u{1d401}", "\u{20000}\u{2a6d6}", "\u{10ffff}", "\ue000\uf8ff", "\ufffd",
  "\u00a0", "\u00a0\u00a0a", " \u00a0 ", "\u3000a", "\u2003\u2003", "\u2028", "\u2029x", "\u202f1", "\u0085", "\u0085\u0085a", "a\u0085", "\u0085\n", "\ufeff", "\ufeffa", "\ufeff\n", "\ufeff\ufeff!", " \ufeff ", "\u180e", "\u180e\u180e ",
  "\u00ad", "a\u00adb", "\u061c\u200e\u200f", "שלום עולם", "السلام عليكم", "Привет, мир!", "Ωμέγα", "ǅ ʰ ª", "_‿⁀", "｡｢｣", "＜＞＝", "`´^~¨¯", "<>|", "|||\n", "\\n\\t", "\"'\"'", "{[()]}", "/* */ // #", "a\tb\tc", "x\u000by\u000cz",
  " ".repeat(100), "\n".repeat(100), " ".repeat(50) + "x", "\n".repeat(7) + " ".repeat(9), "a".repeat(300), "ab".repeat(200), "中".repeat(200), "!".repeat(130), "=".repeat(64) + "\n", "9".repeat(50), "é".repeat(90), "\t".repeat(33) + "}", "😀".repeat(40),
  "<think>", "</think>", "<think>ciao</think>", "<｜begin▁of▁sentence｜>", "<｜begin▁of▁sentence", "<｜User｜>ciao<｜Assistant｜></think>", "｜DSML｜", "<｜DSML｜>", "<<think>>", "< think>", "<think", "<thin<think>k>",
  "<dsml:", "</dsml:x", "<|EOT|>", "<|EOT|", "a <think> b\n</think>\n", "<｜▁pad▁｜><｜end▁of▁sentence｜>", "<｜fim▁hole｜>x<｜fim▁end｜>", "｜｜DSML｜｜", "<｜/table>｜DSML｜",
];

const alphabet = [
  ..." \n\r\t.,!'\"-_(){}<>=/\\0123456789abcdefgABCXYZ", " ", " ", "\n", "e", "s", "t", "\u00a0", "\u3000", "\u2028", "\u0085", "\ufeff", "\u200d",
  "é", "ß", "\u0301", "中", "文", "の", "カ", "ー", "。", "，", "한", "ж", "α", "א", "م", "٣", "½", "€", "™", "…", "—", "“", "🙂", "👍", "\ufe0f", "🇮", "\u{1d400}", "\u0378", "\0", "\x1f",
  "<think>", "</think>", "<｜User｜>", "｜DSML｜", "<dsml:",
];
export function random(n, seed = 7) {
  const draw = draws(seed);
  return Array.from({ length: n }, () => {
    const some = Array.from({ length: 1 + draw(12) }, () => alphabet[draw(alphabet.length)]);
    return Array.from({ length: 1 + draw(draw(8) ? 14 : 120) }, () => (draw(5) ? some[draw(some.length)] : alphabet[draw(alphabet.length)])).join("");
  });
}
