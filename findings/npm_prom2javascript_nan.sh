#!/bin/sh
# prom2javascript 0.2.0 (npm), a parser of pages. It reads +Inf, so one would guess that it reads NaN, the format's other special
# value, which the quantiles of a summary have as long as nothing was observed. One NaN, a label value that ends in a backslash
# or a blank beside a label's `=` makes it throw, so nothing of the page is read.
. "$(dirname "$0")/lib.sh"
npm_get prom2javascript@0.2.0
cat > "$lab/read.mjs" <<'JS'
import { getMetricsFromIterator } from 'prom2javascript';
const lines = process.argv.slice(2);
try { console.log(Object.values(await getMetricsFromIterator((function* () { yield* lines; })())).map(m => m.data.map(d => d.value)).join(' ')); }
catch (error) { console.log('refused'); }
JS
read_by() { node "$lab/read.mjs" 'jobs 5' "$@"; }
expect "+Inf" "5 Infinity" "$(read_by 'x +Inf')"
expect "NaN" "refused" "$(read_by 'x NaN')"
expect 'C:\logs' "5 1" "$(read_by 'x{path="C:\\logs"} 1')"
expect 'C:\' "refused" "$(read_by 'x{path="C:\\"} 1')"
expect "blanks beside =" "refused" "$(read_by 'x{path = "a"} 1')"
finish
