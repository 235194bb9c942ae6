#!/bin/sh
# prometheus-remote-write 0.5.1 (npm), sent to Prometheus 2.42.0 (Debian 2.42.0+ds-5+deb12u1) with its remote-write receiver on.
# The protocol wants labels sorted by name. The package keeps the order that it was given and sends empty values.
# One would guess that the receiver refuses that. It answers 204, sorts, and drops the empty label: both spellings are one series.
. "$(dirname "$0")/lib.sh"
debs prometheus=2.42.0+ds-5+deb12u1
npm_get prometheus-remote-write@0.5.1 snappyjs@0.7.0
port=9; prometheus "$lab/root/usr/bin/prometheus" --web.enable-remote-write-receiver
cat > "$lab/push.js" <<'JS'
const { pushTimeseries } = require('prometheus-remote-write');
const snappy = require('snappyjs');
const order = [];
const send = async (url, options) => {
  const text = Buffer.from(snappy.uncompress(options.body)).toString('latin1');
  order.push(['__name__', 'zone', 'alpha', 'empty'].sort((a, b) => text.indexOf(a) - text.indexOf(b)).join(' '));
  return fetch(url, options);
};
(async () => {
  const now = Date.now();
  const first = await pushTimeseries({ labels: { zone: '1', alpha: '2', empty: '', __name__: 'pushed' }, samples: [{ value: 1, timestamp: now - 2000 }] }, { url: process.argv[2], fetch: send });
  const second = await pushTimeseries({ labels: { __name__: 'pushed', alpha: '2', zone: '1' }, samples: [{ value: 2, timestamp: now - 1000 }] }, { url: process.argv[2], fetch: send });
  console.log(`${order[0]}: ${first.status} ${second.status}`);
})();
JS
expect "order on the wire, answers" 'zone alpha empty __name__: 204 204' "$(node "$lab/push.js" "http://127.0.0.1:$prom/api/v1/write")"
expect "series" '{__name__="pushed", alpha="2", zone="1"} 2' "$(ask pushed)"
expect "samples of it" '{alpha="2", zone="1"} 2' "$(ask 'count_over_time(pushed[1m])')"
finish
