#!/bin/sh
# Drogon 1.9.13 (Debian sid libdrogon-dev 1.9.13+ds-2), its PromExporter, read by promtool 2.42.0 (Debian prometheus
# 2.42.0+ds-5+deb12u1). A gauge that is NaN, as a ratio without events is: one would guess that it is harmless, as the format has NaN.
# Values are written by printf, which writes the sign of a NaN too, and on x86 the 0/0 that a program computes has one: Go reads
# "nan" and not "-nan", so the whole page is refused. (std::numeric_limits' NaN has no sign, so a test with that passes.)
# Small values and bounds are 0.000000, two bounds alike; label values are written as they are.
. "$(dirname "$0")/lib.sh"
needs sid libdrogon-dev=1.9.13+ds-2
gcc12
debs prometheus=2.42.0+ds-5+deb12u1
cat > "$lab/page.cpp" <<'CPP'
#include <drogon/drogon.h>
#include <drogon/plugins/PromExporter.h>
#include <drogon/utils/monitoring/Collector.h>
#include <drogon/utils/monitoring/Gauge.h>
#include <drogon/utils/monitoring/Histogram.h>
#include <cstdlib>
#include <limits>
using namespace drogon;
int main(int, char** argv) {
    const std::string what = argv[1];
    Json::Value config;
    config["plugins"][0]["name"] = "drogon::plugin::PromExporter";
    app().loadConfigJson(config).addListener("127.0.0.1", static_cast<uint16_t>(std::atol(argv[2]))).setThreadNum(1);
    app().registerBeginningAdvice([what] {
        auto exporter = app().getPlugin<plugin::PromExporter>();
        auto gauges = std::make_shared<monitoring::Collector<monitoring::Gauge>>("g", "help", std::vector<std::string>{"path"});
        exporter->registerCollector(gauges);
        volatile double none = 0;
        if (what == "plain") gauges->metric({"/"})->set(0.0000002);
        if (what == "label") gauges->metric({"C:\\"})->set(1);
        if (what == "ratio") gauges->metric({"/"})->set(none / none);
        if (what == "limits") gauges->metric({"/"})->set(std::numeric_limits<double>::quiet_NaN());
        if (what == "histogram") {
            auto histograms = std::make_shared<monitoring::Collector<monitoring::Histogram>>("h", "help", std::vector<std::string>{});
            exporter->registerCollector(histograms);
            histograms->metric({}, std::vector<double>{0.0000002, 0.0000004}, std::chrono::seconds(0), uint64_t(1))->observe(0.0000003);
        }
    });
    app().run();
}
CPP
"$gcc" -std=c++20 -isystem "$lab/root/usr/include" -isystem "$lab/root/usr/include/jsoncpp" -isystem "$lab/root/usr/include/x86_64-linux-gnu" "$lab/page.cpp" \
    -o "$lab/page" -L"$at" -ldrogon -ltrantor -ljsoncpp -Wl,--allow-shlib-undefined
page() {
    port=$(free_port)
    $own "$lab/page" "$1" "$port" > "$lab/log" 2>&1 & drogon=$!
    wait_for curl -sf "http://127.0.0.1:$port/metrics"
    curl -s "http://127.0.0.1:$port/metrics" > "$lab/out"
    kill $drogon
    echo "$(grep '^[gh]' "$lab/out" | cut -d' ' -f"${2:-1-}" | paste -sd' '), $("$lab/root/usr/bin/promtool" check metrics < "$lab/out" 2>&1 | grep -q 'parsing error' && echo refused || echo read)"
}
expect "0.0000002" 'g{path="/"} 0.000000, read' "$(page plain)"
expect "std::numeric_limits' NaN" 'g{path="/"} nan, read' "$(page limits)"
expect "0/0" 'g{path="/"} -nan, refused' "$(page ratio)"
expect 'path C:\' 'g{path="C:\"} 1.000000, refused' "$(page label)"
expect "bounds 0.0000002 and 0.0000004" 'h_bucket{le="0.000000"} h_bucket{le="0.000000"} h_bucket{le="+Inf"} h_sum h_count, read' "$(page histogram 1)"
finish
