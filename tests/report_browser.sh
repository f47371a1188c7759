#!/bin/sh
# tests/report_browser.sh PAGE.html...: opens pages in headless Chromium at 1280 and 400 px, with every
# details element closed as written and then open. Fails on any console message and when a page is
# wider than its window. Exit status: 0 fine, 1 not, 77 no browser (REQUIRE_BROWSER=1: 1).
set -eu
[ $# -gt 0 ] || { echo "usage: $0 PAGE.html..." >&2; exit 64; }

browser=
for name in ${CHROMIUM:-} chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null 2>&1; then browser=$name; break; fi
done
if [ -z "$browser" ]; then
    echo "SKIP $0: no Chromium here; pages were not opened" >&2
    [ "${REQUIRE_BROWSER:-0}" = 1 ] && exit 1
    exit 77
fi

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
bad=0

# Headless windows have a least width, frames have none: the page is loaded into a frame.
driver() {
    cat <<HTML
<!DOCTYPE html><meta charset=utf-8><title>driver</title><pre id=out></pre>
<script>
const frame = document.createElement('iframe');
frame.style.cssText = 'width:$1px;height:900px;border:0';
frame.src = 'page.html';
frame.onload = () => {
    const d = frame.contentDocument, e = d.documentElement, out = document.getElementById('out');
    const measure = what => {
        if (e.scrollWidth > e.clientWidth)
            out.textContent += 'WIDE ' + what + ': ' + e.scrollWidth + ' in ' + e.clientWidth + '\n';
    };
    measure('as written');
    d.querySelectorAll('details').forEach(x => { x.open = true; });
    setTimeout(() => {
        measure('all open');
        d.querySelectorAll('figure.chart').forEach(f => {
            if (!f.dataset.done) out.textContent += 'UNDRAWN ' + f.dataset.key + '\n';
        });
        out.textContent += 'MEASURED';
    }, 1500);
};
document.body.append(frame);
</script>
HTML
}

for page; do
    cp "$page" "$dir/page.html"
    for width in 1280 400; do
        driver "$width" >"$dir/driver.html"
        # No sandbox: containers and root cannot have one, and the page is our own.
        timeout 120 "$browser" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
            --disable-background-networking --disable-component-update --disable-sync \
            --disable-dev-shm-usage --user-data-dir="$dir/profile" --window-size=1300,1000 \
            --allow-file-access-from-files --enable-logging=stderr --v=0 \
            --virtual-time-budget=20000 --dump-dom "file://$dir/driver.html" \
            >"$dir/dom" 2>"$dir/log" || { echo "FAIL $page at $width: browser failed" >&2; bad=1; }
        if grep 'CONSOLE' "$dir/log" >&2; then
            echo "FAIL $page at $width: console messages" >&2; bad=1
        fi
        if grep -E '(WIDE|UNDRAWN) ' "$dir/dom" | grep -v textContent >&2; then
            echo "FAIL $page at $width: layout" >&2; bad=1
        fi
        if ! grep -q '^MEASURED\|>MEASURED' "$dir/dom"; then
            echo "FAIL $page at $width: the page was not measured" >&2; bad=1
        fi
    done
done
[ $bad = 0 ] && echo "ok: $# page(s) at 1280 and 400 px"
exit $bad
