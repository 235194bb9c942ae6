// needs-network
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include <doctest/doctest.h>

using prometheus_async::detail::json_writer;

static std::string text(std::string_view s) { return json_writer().text(s).take(); }

TEST_CASE("a document has its commas where they belong") {
    json_writer out;
    out.open('{').field("a", "b").key("list").open('[').number(1).truth(true).text("x").open('{').close('}').close(']');
    out.key("none").open('[').close(']').key("n").number(18446744073709551615u).close('}');
    CHECK(out.take() == R"({"a":"b","list":[1,true,"x",{}],"none":[],"n":18446744073709551615})");
}

TEST_CASE("quotes, backslashes and control characters are escaped") {
    CHECK(text("a\"b\\c\n\x01\x1f\x7f/") == "\"a\\\"b\\\\c\\u000a\\u0001\\u001f\\u007f/\"");
    CHECK(text(std::string_view("\0", 1)) == "\"\\u0000\"");
}

TEST_CASE("UTF-8 passes as it is, and what is not UTF-8 becomes U+FFFD") {
    CHECK(text("\xc3\xa9\xe2\x98\x83\xf0\x9f\x98\x80") == "\"\xc3\xa9\xe2\x98\x83\xf0\x9f\x98\x80\"");
    CHECK(text("\xff") == "\"\xef\xbf\xbd\"");
    CHECK(text("a\xe2\x98") == "\"a\xef\xbf\xbd\"");                          // cut short
    CHECK(text("\xc0\x80") == "\"\xef\xbf\xbd\xef\xbf\xbd\"");                // overlong
    CHECK(text("\xed\xa0\x80") == "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""); // a surrogate
    CHECK(text("\xf4\x90\x80\x80") == "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
}
