#!/bin/sh
# @platformatic/promotel 0.2.2 (npm), which turns a Prometheus page into OTLP. One would guess that a histogram keeps its bounds.
# Only the last bucket line counts: in a page as client libraries write it that is le="+Inf", so that what arrives is one bucket
# of all observations, from which no quantile can be told; with the lines in the other order it is the first bound alone, with
# one count where OTLP wants two. A gauge whose name ends in _count becomes a histogram, and a sample that is NaN or infinite is left
# out. No error is raised.
. "$(dirname "$0")/lib.sh"
npm_get @platformatic/promotel@0.2.2
cat > "$lab/otlp.mjs" <<'JS'
import { convert, parse } from '@platformatic/promotel';
const metrics = convert(parse(process.argv[2])).resource_metrics[0].scope_metrics[0].metrics;
console.log(metrics.map(m => {
  const kind = Object.keys(m).find(k => k !== 'name' && m[k]?.data_points), point = m[kind].data_points[0];
  return kind === 'histogram' ? `${m.name} histogram, bounds ${point.explicit_bounds}, counts ${point.bucket_counts}, count ${point.count}` : `${m.name} ${kind} ${point.as_double}`;
}).join('|') || 'nothing');
JS
otlp() { node "$lab/otlp.mjs" "$(printf "$1")"; }
up='h_bucket{le="1"} 1\nh_bucket{le="2"} 3\nh_bucket{le="+Inf"} 7\n' down='h_bucket{le="+Inf"} 7\nh_bucket{le="2"} 3\nh_bucket{le="1"} 1\n'
expect "a histogram" "h histogram, bounds , counts 7, count 7" "$(otlp "# TYPE h histogram\n${up}h_sum 30\nh_count 7\n")"
expect "its bounds falling" "h histogram, bounds 1, counts 1, count 7" "$(otlp "# TYPE h histogram\n${down}h_sum 30\nh_count 7\n")"
expect "a gauge in_flight" "in_flight gauge 7" "$(otlp '# TYPE in_flight gauge\nin_flight 7\n')"
expect "a gauge in_flight_count" "in_flight histogram, bounds , counts , count 7" "$(otlp '# TYPE in_flight_count gauge\nin_flight_count 7\n')"
expect "NaN, +Inf" "nothing, nothing" "$(otlp '# TYPE x gauge\nx NaN\n'), $(otlp '# TYPE x gauge\nx +Inf\n')"
finish
