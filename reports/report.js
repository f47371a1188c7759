/* Copy buttons, sortable tables, ulp bars, heat map details and charts. The page is complete
 * without this file; charts and bars are drawn when their details element opens. */
(function () {
    'use strict';
    const data = JSON.parse(document.getElementById('data').textContent);
    const all = (sel, root) => Array.from((root || document).querySelectorAll(sel));
    const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

    /* ---- copy ---- */
    all('.code').forEach(box => {
        const pre = box.querySelector('pre'), b = document.createElement('button');
        const say = text => { b.textContent = text; setTimeout(() => { b.textContent = 'Copy'; }, 1500); };
        const select = () => {
            getSelection().selectAllChildren(pre);
            say('Selected');
        };
        b.type = 'button', b.className = 'copy', b.textContent = 'Copy';
        b.setAttribute('aria-label', 'Copy: ' + box.querySelector('.label').textContent);
        b.onclick = () => navigator.clipboard
            ? navigator.clipboard.writeText(pre.textContent).then(() => say('Copied'), select) : select();
        box.appendChild(b);
    });

    /* ---- sort: numbers by value, empty cells last ---- */
    function valueOf(cell) {
        const text = cell ? (cell.dataset.v || cell.dataset.u || cell.textContent).trim() : '';
        const n = text === 'inf' ? Infinity : text === '-inf' ? -Infinity : parseFloat(text);
        return { text, n: /^[-+]?(\d|\.\d|inf$)/.test(text) ? n : NaN };
    }
    function sortBy(table, col, dir) {
        const body = table.tBodies[0];
        const rows = Array.from(body.rows).map((row, i) => ({ row, i, v: valueOf(row.cells[col]) }));
        rows.sort((a, b) => {
            if (!a.v.text !== !b.v.text) return a.v.text ? -1 : 1;
            const num = !isNaN(a.v.n) && !isNaN(b.v.n);
            const c = num ? (a.v.n < b.v.n ? -1 : a.v.n > b.v.n ? 1 : 0)
                          : a.v.text < b.v.text ? -1 : a.v.text > b.v.text ? 1 : 0;
            return c * dir || a.i - b.i;
        });
        body.append(...rows.map(r => r.row));
    }
    all('table.sort').forEach(table => {
        const heads = Array.from(table.tHead.rows[0].cells);
        heads.forEach((th, col) => {
            const b = document.createElement('button');
            b.type = 'button', b.textContent = th.textContent;
            th.textContent = '', th.append(b);
            b.onclick = () => {
                const dir = th.getAttribute('aria-sort') === 'descending' ? 1 : -1;
                heads.forEach(h => h.removeAttribute('aria-sort'));
                th.setAttribute('aria-sort', dir < 0 ? 'descending' : 'ascending');
                sortBy(table, col, dir);
            };
        });
    });

    /* ---- ulp bars ---- */
    const ulpName = ['0', '1', '2', '3-4', '5-8', '9-16', '17-64', '65-1024', '1025-2^20', 'more'];
    function drawBars(root) {
        all('td.u:not([data-u])', root).forEach(td => {
            const n = td.textContent.trim().split(' ').map(Number), sum = n.reduce((a, b) => a + b, 0);
            const path = n.map((v, i) => {
                const h = v ? Math.max(1, 16 * Math.sqrt(v / sum)) : 0;
                return h ? 'M' + i * 6 + ' 16v-' + h.toFixed(1) + 'h5V16z' : '';
            }).join('');
            const text = n.map((v, i) => v ? ulpName[i] + ' ulp: ' + v : '').filter(Boolean).join(', ');
            td.dataset.u = n.reduce((last, v, i) => v ? i : last, 0);
            td.innerHTML = '<svg viewBox="0 0 60 16" role="img"><title></title><path d="' + path + '"/></svg>';
            td.querySelector('title').textContent = text;
        });
    }

    /* ---- heat map details, by pointer or by arrow keys ---- */
    const tip = document.getElementById('tip');
    const stateText = { '=': 'same bits', a: 'only side a has it', b: 'only side b has it', '?': 'not measured' };
    function tipText(td) {
        const table = td.closest('table'), head = table.tHead.rows[0].cells[td.cellIndex].textContent;
        const name = td.parentNode.cells[0].textContent + (head === 'io' ? '' : ', layer ' + head);
        if (!td.dataset.d) return name + '\n' + (stateText[td.textContent.trim()] || 'no such tap here');
        const d = td.dataset.d.split('|');
        return name + '\nNRMSE ' + (d[2] || 'not measured') + '\nRMS ' + (d[0] || 'not measured') +
            '\nmax abs ' + (d[1] || 'not measured') + '\nmax ulp ' + d[3] +
            (d[4] >= 0 ? '\nfirst at position ' + d[4] : '') +
            (td.className === 'nf' ? '\nnon-finite values differ' : '');
    }
    function showTip(td) {
        tip.textContent = tipText(td), tip.hidden = false;
        const r = td.getBoundingClientRect(), t = tip.getBoundingClientRect();
        const wide = document.documentElement.clientWidth;
        const left = r.right + 8 + t.width < wide ? r.right + 8 : Math.max(4, r.left - t.width - 8);
        tip.style.left = Math.min(left, wide - t.width - 4) + 'px';
        tip.style.top = Math.max(4, Math.min(r.top, innerHeight - t.height - 4)) + 'px';
    }
    const hideTip = () => { tip.hidden = true; };
    all('table.heat').forEach(table => {
        const body = table.tBodies[0];
        const first = body.querySelector('td[class]');
        if (first) first.tabIndex = 0;
        const cellOf = e => { const td = e.target.closest('td'); return td && td.className ? td : null; };
        body.addEventListener('pointerover', e => { const td = cellOf(e); if (td) showTip(td); else hideTip(); });
        body.addEventListener('pointerleave', hideTip);
        body.addEventListener('focusin', e => {
            const td = cellOf(e);
            if (td) showTip(td), td.setAttribute('aria-label', tipText(td).replace(/\n/g, ', '));
        });
        body.addEventListener('focusout', hideTip);
        body.addEventListener('keydown', e => {
            const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
            const td = e.target.closest('td');
            if (e.key === 'Escape') hideTip();
            if (!step || !td) return;
            e.preventDefault();
            let x = td.cellIndex, y = td.parentNode.sectionRowIndex, next;
            do {
                x += step[0], y += step[1];
                next = x > 0 && body.rows[y] ? body.rows[y].cells[x] : null;
            } while (next && !next.className);
            if (next) td.tabIndex = -1, next.tabIndex = 0, next.focus();
        });
    });
    addEventListener('scroll', hideTip, { capture: true, passive: true });

    /* ---- charts ---- */
    const short = v => Math.abs(v) >= 1e-3 && Math.abs(v) < 1e4 || v === 0
        ? String(+v.toPrecision(4)) : v.toExponential(Math.abs(Math.log10(Math.abs(v)) % 1) < 1e-9 ? 0 : 2);
    function optionsOf(spec, log) {
        const fg = css('--soft'), line = css('--line'), many = spec.series.length > 1;
        const axis = (title, extra) => Object.assign({
            title: { display: true, text: title, color: fg }, grid: { color: line, borderColor: line },
            ticks: { color: fg, maxTicksLimit: 9, maxRotation: 0 } }, extra);
        const y = axis(spec.y, log ? { type: 'logarithmic' } : { beginAtZero: true });
        y.ticks.callback = v => !log || Math.abs(Math.log10(v) % 1) < 1e-9 ? short(v) : '';
        y.ticks.autoSkip = true;
        const x = axis(spec.x, { type: 'linear', grid: { display: false, borderColor: line } });
        x.ticks.precision = 0, x.bounds = 'data';
        return {
            animation: false, responsive: true, maintainAspectRatio: false,
            interaction: { mode: 'nearest', axis: 'x', intersect: false },
            scales: { x, y },
            plugins: {
                legend: { display: many, labels: { color: css('--fg'), usePointStyle: true, boxHeight: 6 } },
                tooltip: { callbacks: {
                    title: items => items.length ? spec.x + ' ' + items[0].parsed.x : '',
                    label: item => item.dataset.label + ': ' + short(item.parsed.y) } },
            },
        };
    }
    function datasetOf(s, i, log) {
        const points = [], color = s.dash ? css('--soft') : css('--s' + i % 6);
        for (let k = 0; k < s.p.length; k += 2) {
            const v = s.p[k + 1];
            points.push({ x: s.p[k], y: v === null || (log && v <= 0) ? null : v });
        }
        const few = points.length <= 60, bad = css('--bad');
        const fails = s.fail || [];
        return {
            label: s.name.length > 28 ? s.name.slice(0, 27) + '…' : s.name, data: points, borderColor: color, backgroundColor: color, borderWidth: 1.75,
            borderDash: s.dash ? [6, 4] : i >= 6 ? [2, 2] : [], spanGaps: false, tension: 0,
            pointRadius: s.dash ? 0 : s.fail ? 4.5 : few ? 2.5 : 0, pointHoverRadius: 5,
            pointStyle: s.fail ? points.map((p, k) => fails[k] ? 'triangle' : 'circle') : 'circle',
            pointBackgroundColor: s.fail ? points.map((p, k) => fails[k] ? bad : color) : color,
            pointBorderColor: s.fail ? points.map((p, k) => fails[k] ? bad : color) : color,
        };
    }
    const live = [];
    function drawChart(figure) {
        const spec = (data[figure.dataset.key] || [])[figure.dataset.i];
        if (!spec || !window.Chart) return;
        let low = Infinity, high = 0;
        spec.series.forEach(s => s.p.forEach((v, k) => {
            if (k % 2 && v > 0) low = Math.min(low, v), high = Math.max(high, v);
        }));
        /* A search's scores include zero, which a logarithmic axis cannot show, unless they span decades. */
        const log = high > 0 && (figure.dataset.key !== 'trial' || high / low > 100);
        const options = optionsOf(spec, log);
        if (log) {
            options.scales.y.min = Math.pow(10, Math.floor(Math.log10(low) + 1e-9));
            options.scales.y.max = Math.pow(10, Math.ceil(Math.log10(high) - 1e-9));
            if (options.scales.y.min === options.scales.y.max) options.scales.y.max *= 10;
        }
        const chart = new Chart(figure.querySelector('canvas'), {
            type: 'line', options, data: { datasets: spec.series.map((s, i) => datasetOf(s, i, log)) },
        });
        live.push({ chart, figure });
    }
    function drawIn(root) {
        drawBars(root);
        all('figure.chart:not([data-done])', root).forEach(f => {
            const closed = f.closest('details:not([open])');
            if (!closed) f.dataset.done = '1', drawChart(f);
        });
    }
    all('details').forEach(d => d.addEventListener('toggle', () => { if (d.open) drawIn(d); }));
    all('section > figure.chart, details[open]').forEach(e => drawIn(e.tagName === 'DETAILS' ? e : e.parentNode));
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
        live.splice(0).forEach(c => { c.chart.destroy(); drawChart(c.figure); });
    });
})();
