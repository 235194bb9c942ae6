// What to answer to Accept and Accept-Encoding: room [54].
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include <doctest/doctest.h>

namespace prom = prometheus_async;
using prom::escaping;
using prom::format;

namespace {

std::string agreed(std::string_view accept) {
    const prom::negotiation n = prom::negotiate(accept);
    return std::string(prom::content_type(n.as, n.names));
}
bool gzip(std::string_view accept_encoding) { return prom::negotiate("", accept_encoding).gzip; }

const std::string text = "text/plain; version=0.0.4; charset=utf-8";
const std::string text_1 = "text/plain; version=1.0.0; charset=utf-8; escaping=underscores";
const std::string openmetrics_0 = "application/openmetrics-text; version=0.0.1; charset=utf-8";
const std::string openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores";
const std::string openmetrics_utf8 = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8";
const std::string protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
const std::string protobuf_type = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=";
const std::string openmetrics_2 = "application/openmetrics-text; version=2.0.0; charset=utf-8; escaping=";

}  // namespace

TEST_CASE("each Prometheus that was measured gets the format it wants most") {
    // 2.24, 2.42, 2.42 with native histograms, 2.53, 2.53 native, 3.5.3, 3.5.3 native, VictoriaMetrics
    CHECK(agreed("application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1") == openmetrics_0);
    CHECK(agreed("application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
                 "text/plain;version=0.0.4;q=0.5,*/*;q=0.1") == openmetrics);
    CHECK(agreed(protobuf + ",application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,"
                 "text/plain;version=0.0.4;q=0.5,*/*;q=0.1") == protobuf_type + "underscores");
    CHECK(agreed("application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
                 "text/plain;version=0.0.4;q=0.3,*/*;q=0.2") == openmetrics);
    CHECK(agreed(protobuf + ";q=0.5,application/openmetrics-text;version=1.0.0;q=0.4,application/openmetrics-text;version=0.0.1;q=0.3,"
                 "text/plain;version=0.0.4;q=0.2,*/*;q=0.1") == protobuf_type + "underscores");
    CHECK(agreed("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
                 "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2") == openmetrics_utf8);
    CHECK(agreed(protobuf + ";q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
                 "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
                 "text/plain;version=0.0.4;q=0.2,*/*;q=0.1") == protobuf_type + "allow-utf-8");
    CHECK(agreed("text/plain;version=0.0.4;q=1,*/*;q=0.1") == text);
}

TEST_CASE("a Prometheus set to another escaping scheme gets it") {
    for (const std::string scheme : {"underscores", "dots", "values"})
        CHECK(agreed("application/openmetrics-text;version=1.0.0;escaping=" + scheme + ";q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
                     "text/plain;version=1.0.0;escaping=" + scheme + ";q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2") ==
              "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=" + scheme);
}

TEST_CASE("a browser, curl, Consul and clients without Accept see text 0.0.4") {
    for (std::string_view accept : {"", "*/*", "text/*", "text/plain", "text/plain, text/*, */*", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
                                    "application/json", "application/*", "image/png;q=0.1", "TEXT/PLAIN", " ", ",", ";", ",,,;;;,", "nonsense", "=", "\"", "q=1"})
        CHECK(agreed(accept) == text);
}

TEST_CASE("the highest q wins wherever it stands, the first of equals otherwise") {
    CHECK(agreed("text/plain;q=0.5, application/openmetrics-text;version=1.0.0;q=0.6") == openmetrics);
    CHECK(agreed("application/openmetrics-text;version=1.0.0;q=0.5, text/plain;q=0.6") == text);
    CHECK(agreed("text/plain;q=0.5, application/openmetrics-text;q=0.5") == text);
    CHECK(agreed("application/openmetrics-text;q=0.5, text/plain;q=0.5") == openmetrics);
    CHECK(agreed("application/openmetrics-text;q=0.500, text/plain;q=0.501") == text);
    CHECK(agreed("*/*;q=0.9, application/openmetrics-text;q=0.5") == text);
    CHECK(agreed("*/*;q=0.1, application/openmetrics-text;q=0.5") == openmetrics);
}

TEST_CASE("q is clamped, may be quoted, and is no offer when it is no number") {
    CHECK(agreed("text/plain;q=1, application/openmetrics-text;q=7") == text);
    CHECK(agreed("text/plain;q=0.9, application/openmetrics-text;q=1.5") == openmetrics);
    CHECK(agreed("text/plain;q=0.9, application/openmetrics-text;Q=\"1\"") == openmetrics);
    CHECK(agreed("text/plain;q=0.1, application/openmetrics-text;q=.5") == openmetrics);
    CHECK(agreed("text/plain;q=0.1, application/openmetrics-text ; q = 0.5") == openmetrics);
    CHECK(agreed("text/plain;q=0.1, application/openmetrics-text;q=1.") == openmetrics);
    CHECK(agreed("text/plain;q=0.0000001, application/openmetrics-text;q=0.0000000001") == text);
    CHECK(agreed("application/openmetrics-text;q=0.00000000000000000000000001") == openmetrics);
    for (std::string_view q : {"-1", "-0", "x", "", "1e0", "0x1", "nan", "inf", "0..5", "1 0", "0,9"})
        CHECK(agreed("application/openmetrics-text;q=" + std::string(q) + ", text/plain;q=0.001") == text);
    CHECK(agreed("text/plain;q=x, */*") == text);  // and no refusal either
    CHECK(agreed("text/plain;q=-1, */*") == openmetrics);
    CHECK(prom::detail::parse_q("0.123456789") == 123456);
    CHECK(prom::detail::parse_q("0") == 0);
    CHECK(prom::detail::parse_q("0.000") == 0);
    CHECK(prom::detail::parse_q("99999999999999999999999") == 1000000);
    CHECK(prom::detail::parse_q("0.0000000001") == 1);
    CHECK(prom::detail::parse_q("0.0000000200") == 1);
    CHECK(prom::detail::parse_q("0.0000000000") == 0);
}

TEST_CASE("q=0 refuses a format; when nothing is left it is text 0.0.4 nevertheless") {
    CHECK(agreed("application/openmetrics-text;q=0, */*") == text);
    CHECK(agreed("application/openmetrics-text;version=1.0.0;q=0, application/openmetrics-text;version=0.0.1;q=0.1") == openmetrics_0);
    CHECK(agreed("application/openmetrics-text;version=1.0.0;q=0, application/openmetrics-text") == openmetrics_0);
    CHECK(agreed("text/plain;q=0, */*;q=0.5") == openmetrics);
    CHECK(agreed("text/plain;version=0.0.4;q=0, text/*") == text_1);
    CHECK(agreed("text/plain;q=0, text/*;q=0.9, application/openmetrics-text;q=0.5") == openmetrics);
    CHECK(agreed("text/plain;q=0, text/plain;version=1.0.0;q=0.5") == text_1);
    CHECK(agreed("*/*;q=0") == text);
    CHECK(agreed("text/plain;q=0") == text);
    CHECK(agreed("*/*;q=0, text/plain;q=0, application/openmetrics-text;q=0") == text);
}

TEST_CASE("a version that is not known is not supported, none is the usual one") {
    CHECK(agreed("application/openmetrics-text") == openmetrics);
    CHECK(agreed("application/openmetrics-text;version=") == openmetrics);
    CHECK(agreed("application/openmetrics-text;version=2.1.0, text/plain;q=0.1") == text);
    CHECK(agreed("application/openmetrics-text;version=2.1.0;q=0.9, application/openmetrics-text;version=1.0.0;q=0.1") == openmetrics);
    CHECK(agreed("application/openmetrics-text;version=0.0.1") == openmetrics_0);
    CHECK(agreed("application/openmetrics-text;version=1.0.0, application/openmetrics-text;version=0.0.1") == openmetrics);
    CHECK(agreed("text/plain;version=1.0.0") == text_1);
    CHECK(agreed("text/plain;version=9.9.9") == text);
    CHECK(agreed("application/openmetrics-textual") == text);
    CHECK(agreed("xapplication/openmetrics-text") == text);
}

TEST_CASE("names of types and parameters ignore case; values, spaces and quotes are read as the grammar has them") {
    CHECK(agreed("APPLICATION/OpenMetrics-Text;VERSION=1.0.0") == openmetrics);
    CHECK(agreed("\tapplication/openmetrics-text\t;\tversion=\"1.0.0\"\t; charset=utf-8 ;q=1 ,text/plain") == openmetrics);
    CHECK(agreed("application/openmetrics-text;foo=\"a,b;q=0\\\",c\";version=1.0.0") == openmetrics);
    CHECK(agreed("application/json;x=\",application/openmetrics-text;q=1,\", text/plain;version=1.0.0") == text_1);
    CHECK(agreed("application/json;x=\"never closed, application/openmetrics-text") == text);
    CHECK(agreed("application/json;x=\"\\") == text);
    CHECK(agreed("application/openmetrics-text;version=\"") == text);  // one quote is a version that is not known, two are none
    CHECK(agreed("application/openmetrics-text;version=\"\"") == openmetrics);
    CHECK(agreed("application/openmetrics-text;version=1.0.0;;;q=1;") == openmetrics);
    CHECK(agreed("application/openmetrics-text;flag;version=1.0.0") == openmetrics);
}

TEST_CASE("the last valid escaping on the way to the chosen clause counts") {
    const std::string text_utf8 = text + "; escaping=allow-utf-8";
    CHECK(agreed("text/plain;version=0.0.4;escaping=allow-utf-8") == text_utf8);
    CHECK(agreed("application/json;escaping=allow-utf-8, text/plain;version=0.0.4") == text_utf8);
    CHECK(agreed("application/vnd.google.protobuf;escaping=values, text/plain;version=1.0.0;q=0.9") == "text/plain; version=1.0.0; charset=utf-8; escaping=values");
    CHECK(agreed("application/json;escaping=values;q=0.9, image/png;escaping=dots;q=0.8, text/plain;q=0.7") == text + "; escaping=dots");
    CHECK(agreed("image/png;escaping=dots;q=0.8, application/json;escaping=values;q=0.9, text/plain;q=0.7") == text + "; escaping=dots");
    CHECK(agreed("text/plain;q=0.7, application/json;escaping=values;q=0.6") == text);
    CHECK(agreed("application/json;escaping=values;q=0.7, application/xml;escaping=dots;q=0.7, text/plain;q=0.7, a/b;escaping=allow-utf-8;q=0.7") == text + "; escaping=dots");
    CHECK(agreed("text/plain;version=1.0.0;escaping=rot13") == text_1);
    CHECK(agreed("text/plain;version=1.0.0;escaping=Allow-UTF-8") == text_1);
    CHECK(agreed("text/plain;version=1.0.0;escaping=\"dots\"") == "text/plain; version=1.0.0; charset=utf-8; escaping=dots");
    CHECK(agreed("application/json;escaping=values;q=0, text/plain") == text);
}

TEST_CASE("the sixteen content types are the documented ones") {
    CHECK(prom::content_type(format::text_0_0_4, escaping::underscores) == text);
    CHECK(prom::content_type(format::text_0_0_4, escaping::values) == text + "; escaping=values");
    CHECK(prom::content_type(format::text_1_0_0, escaping::allow_utf8) == "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8");
    CHECK(prom::content_type(format::openmetrics_0_0_1, escaping::underscores) == openmetrics_0);
    CHECK(prom::content_type(format::openmetrics_0_0_1, escaping::dots) == openmetrics_0 + "; escaping=dots");
    CHECK(prom::content_type(format::openmetrics_1_0_0, escaping::underscores) == openmetrics);
    CHECK(prom::content_type(format::openmetrics_1_0_0, escaping::allow_utf8) == openmetrics_utf8);
}

TEST_CASE("gzip is used when it is asked for by name, and not less than the plain page") {
    for (std::string_view yes : {"gzip", "GZIP", "x-gzip", "gzip, deflate", "deflate, gzip;q=1.0, *;q=0.5", "br;q=1.0, gzip;q=0.2", "gzip;q=0.001", " gzip ",
                                 "identity;q=0, gzip", "identity;q=0.5, gzip;q=0.5", "gzip;q=1;x=\"q=0\""})
        CHECK(gzip(yes));
    for (std::string_view no : {"", "identity", "gzip;q=0", "gzip;q=0.000", "*, gzip;q=0", "*", "notgzip", "gzipped", "deflate", "br", "identity;q=0", "gzip;q=x",
                                "gzip;q=0, gzip", "identity, gzip;q=0.5", ",", "\"gzip\"", "g zip"})
        CHECK_FALSE(gzip(no));
}

TEST_CASE("empty list elements count for nothing") {
    CHECK(agreed(",,application/openmetrics-text;version=1.0.0, ,") == openmetrics);
    CHECK(agreed(" , text/plain;q=0.5 ,, application/openmetrics-text;version=1.0.0;q=0.6,") == openmetrics);
    CHECK(gzip(",gzip,"));
    CHECK_FALSE(gzip(", identity, ,gzip;q=0.5"));
}

TEST_CASE("of the formats that are offered the best is taken, and text 0.0.4 is always there") {
    const format only[] = {format::openmetrics_1_0_0};
    CHECK(prom::negotiate("application/openmetrics-text", {}, only).as == format::openmetrics_1_0_0);
    CHECK(prom::negotiate("application/openmetrics-text;version=0.0.1, text/plain;version=1.0.0", {}, only).as == format::text_0_0_4);
    CHECK(prom::negotiate("application/openmetrics-text;escaping=dots;q=0.9, text/plain;version=1.0.0;q=0.5", {}, prom::list<format>{format::text_1_0_0}).as == format::text_1_0_0);
    // The escaping of a clause that speaks of what is withheld does not count.
    const format text_only[] = {format::text_0_0_4};
    const auto names = [&](std::string_view accept) { return prom::negotiate(accept, {}, text_only).names; };
    CHECK(names("text/plain;version=1.0.0;escaping=allow-utf-8, text/plain;version=0.0.4;q=0.5") == prom::escaping::underscores);
    CHECK(names("text/plain;version=1.0.0;escaping=allow-utf-8, text/plain;version=0.0.4;escaping=dots;q=0.5") == prom::escaping::dots);
    CHECK(names("text/plain;escaping=allow-utf-8") == prom::escaping::allow_utf8);
    CHECK(names("application/openmetrics-text;escaping=values, */*;q=0.1") == prom::escaping::underscores);
    CHECK(prom::server_stats({.accept = "application/openmetrics-text", .formats = text_only}).content_type == text);
}

TEST_CASE("a hostile field is read in linear time and does no harm") {
    // Nothing is measured: a quadratic reading of this megabyte would not end within the test's limit.
    std::string many, quotes = "x;y=\"", backslashes = "x;y=\"", commas, semicolons = "text/plain", equals = "text/plain;";
    for (int i = 0; i != 40000; ++i) many += "a/b;escaping=dots;q=0.5,";
    for (int i = 0; i != 1000000; ++i) {
        quotes += "\",\"";
        backslashes += '\\';
        commas += ',';
        semicolons += ';';
        equals += '=';
    }
    CHECK(agreed(many + "text/plain;version=1.0.0;q=0.4") == "text/plain; version=1.0.0; charset=utf-8; escaping=dots");
    CHECK(agreed(quotes) == text);
    CHECK(agreed(backslashes) == text);
    CHECK(agreed(commas) == text);
    CHECK(agreed(semicolons) == text);
    CHECK(agreed(equals) == text);
    CHECK_FALSE(gzip(commas));
    std::string octets;
    for (int i = 0; i != 256; ++i) octets += static_cast<char>(static_cast<unsigned char>(i));
    CHECK(agreed(octets) == text);
    CHECK(agreed(octets + "," + octets + ",application/openmetrics-text") == openmetrics);
}

TEST_CASE("protobuf is for who asks for these messages, delimited, whatever the order and the case of the words") {
    CHECK(agreed(protobuf) == protobuf_type + "underscores");
    CHECK(agreed("Application/Vnd.Google.Protobuf ; Encoding=\"delimited\" ; Proto=io.prometheus.client.MetricFamily") == protobuf_type + "underscores");
    for (const std::string other : {"application/vnd.google.protobuf", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily",
                                    "application/vnd.google.protobuf;encoding=delimited", "application/*", "*/*",
                                    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
                                    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=compact-text",
                                    "application/vnd.google.protobuf;proto=foo.Bar;encoding=delimited"})
        CHECK(agreed(other) == text);
    CHECK(agreed(protobuf + ";q=0") == text);
    CHECK(agreed(protobuf + ";q=0.3,text/plain;version=0.0.4;q=0.4") == text);
    CHECK(agreed("text/plain;version=0.0.4;q=0.4," + protobuf + ";q=0.4") == text);
    CHECK(agreed(protobuf + ";escaping=dots") == protobuf_type + "dots");
    const prom::format offered[] = {format::openmetrics_1_0_0};
    CHECK(prom::negotiate(protobuf + ",application/openmetrics-text;q=0.1", {}, offered).as == format::openmetrics_1_0_0);
}

TEST_CASE("OpenMetrics 2.0 is for who asks for that version, and is no answer to any other") {
    CHECK(agreed("application/openmetrics-text;version=2.0.0") == openmetrics_2 + "underscores");
    CHECK(agreed("application/openmetrics-text") == openmetrics);
    CHECK(agreed("application/openmetrics-text;version=2") == text);
    CHECK(agreed("application/openmetrics-text;version=3.0.0,*/*;q=0.1") == text);
    // Prometheus 3.15 with openmetrics2, as its source has it: no escaping in the clause.
    CHECK(agreed("application/openmetrics-text;version=2.0.0;q=0.8,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7,"
                 "application/openmetrics-text;version=0.0.1;q=0.6,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,"
                 "text/plain;version=0.0.4;q=0.4,*/*;q=0.3") == openmetrics_2 + "allow-utf-8");
}
