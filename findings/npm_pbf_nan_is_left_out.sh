#!/bin/sh
# pbf 5.1.2 (npm), code that it makes from the remote-write messages, sent to Prometheus 2.42.0 (Debian 2.42.0+ds-5+deb12u1).
# One would guess that a field is left out when it has its default, 0. It is left out when JavaScript takes it for false: NaN
# too. A sample that is NaN (a ratio without events; each staleness marker) arrives as 0, with status 204.
. "$(dirname "$0")/lib.sh"
debs prometheus=2.42.0+ds-5+deb12u1
npm_get pbf@5.1.2 snappyjs@0.7.0
port=9; prometheus "$lab/root/usr/bin/prometheus" --web.enable-remote-write-receiver
cat > "$lab/write.proto" <<'PROTO'
syntax = "proto3";
message WriteRequest { repeated TimeSeries timeseries = 1; }
message TimeSeries { repeated Label labels = 1; repeated Sample samples = 2; }
message Label { string name = 1; string value = 2; }
message Sample { double value = 1; int64 timestamp = 2; }
PROTO
(cd "$lab" && node_modules/.bin/pbf write.proto > write.mjs)
cat > "$lab/push.mjs" <<'JS'
import { PbfWriter } from 'pbf';
import snappy from 'snappyjs';
import { writeWriteRequest } from './write.mjs';
const value = Number(process.argv[3]), writer = new PbfWriter();
const labels = [{ name: '__name__', value: 'pushed' }, { name: 'sent', value: String(value) }];
writeWriteRequest({ timeseries: [{ labels, samples: [{ value, timestamp: Date.now() }] }] }, writer);
const answer = await fetch(process.argv[2], { method: 'POST', body: snappy.compress(writer.finish()) });
console.log(answer.status);
JS
for value in 1 Infinity NaN; do expect "status of $value" 204 "$(node "$lab/push.mjs" "http://127.0.0.1:$prom/api/v1/write" $value)"; done
expect "what arrived" '{__name__="pushed", sent="1"} 1|{__name__="pushed", sent="Infinity"} +Inf|{__name__="pushed", sent="NaN"} 0' "$(ask pushed | paste -sd'|')"
finish
