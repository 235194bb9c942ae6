// Rooms [60], [61].
// needs-network
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include <doctest/doctest.h>

#include <map>

#include <sys/mman.h>
#include <unistd.h>

namespace prom = prometheus_async;
using prom::detail::http_method;
using prom::detail::request_head;
using prom::detail::request_parser;

namespace {

// Every input ends at a page that cannot be read: one octet too far is a crash, sanitizers or not.
class guarded {
public:
    guarded() : page_(static_cast<std::size_t>(::sysconf(_SC_PAGESIZE))) {
        void* const map = ::mmap(nullptr, 16 * page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        REQUIRE(map != MAP_FAILED);
        base_ = static_cast<char*>(map);
        REQUIRE(::mprotect(base_ + 15 * page_, page_, PROT_NONE) == 0);
    }
    guarded(const guarded&) = delete;
    ~guarded() { ::munmap(base_, 16 * page_); }
    std::string_view put(std::string_view text) {
        REQUIRE(text.size() <= 15 * page_);
        char* const at = base_ + 15 * page_ - text.size();
        if (!text.empty()) std::memcpy(at, text.data(), text.size());
        return {at, text.size()};
    }

private:
    std::size_t page_;
    char* base_ = nullptr;
};

constexpr prom::server_limits limits;

struct outcome {
    int status = 0;  // 0: more is needed, 200: a head, else the error
    std::size_t used = 0;
    std::string target, host, accept, verb;
    bool close = false, content = false, old = false, expects = false;
    http_method method = http_method::unknown;
    bool operator==(const outcome&) const = default;
};
outcome look(const request_parser& p, std::size_t used) {
    const request_head& h = p.head;
    if (p.failed() != 0) return {.status = p.failed(), .used = used, .target = {}, .host = {}, .accept = {}, .verb = {}};
    return {p.done() ? 200 : 0, used, h.target, h.host, h.accept, h.verb, h.close, h.content, h.http_1_0, h.expects_other, h.method};
}
outcome parse(std::string_view text) {
    static guarded page;
    request_parser p(limits);
    const std::size_t used = p.feed(page.put(text));
    return look(p, used);
}
outcome parse_cut(std::string_view text, std::size_t piece, std::size_t first) {
    static guarded page;
    request_parser p(limits);
    std::size_t used = 0;
    for (std::size_t n = first; used != text.size() && !p.done() && p.failed() == 0; n = piece) {
        const std::string_view part = text.substr(used, n);
        const std::size_t took = p.feed(page.put(part));
        used += took;
        if (took != part.size()) break;
    }
    return look(p, used);
}
// One field (or several lines) in an otherwise good head.
int field(std::string_view lines, std::string_view line = "GET /metrics HTTP/1.1") {
    return parse(std::string(line) + "\r\nHost: localhost\r\n" + std::string(lines) + "\r\n\r\n").status;
}
int line(std::string_view text) { return parse(std::string(text) + "\r\nHost: localhost\r\n\r\n").status; }
int host(std::string_view value) { return parse("GET / HTTP/1.1\r\nHost: " + std::string(value) + "\r\n\r\n").status; }

const std::string good[] = {
    "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "\r\n\r\nHEAD / HTTP/1.0\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n",
    "GET http://[::1]:9464/metrics?name[]=a%20b HTTP/1.9\r\nhOST: x\r\nX-A:   b \t \r\nAccept: a\r\nAccept: b;q=0.5\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a.b:65535\r\nTransfer-Encoding: ChUnKeD\r\nExpect: 100-Continue\r\n\r\n",
    "GET /m HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Prometheus/3.5.0\r\nAccept: application/openmetrics-text;version=1.0.0;"
    "escaping=allow-utf-8;q=0.6,*/*;q=0.2\r\nAccept-Encoding: gzip\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\nX-B: caf\xe9\r\n\r\n",
};
const std::string bad[] = {
    "\x16\x03\x01", "GET  / HTTP/1.1\r\n", "GET /\r\n", "GET / HTTP/2.0\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "GET /%0 HTTP/1.1", "GET / HTTP/1.1\r\nContent-Length: +1\r\n", "GET / HTTP/1.1\r\nX: a\rb", "GET / HTTP/1.1\r\n\r\n",
    "\r\n\r\n\r\n\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n",
    "GET /" + std::string(9000, 'a'), "GET / HTTP/1.1\r\nX: " + std::string(17000, 'a'), std::string(40, 'A'),
};

}  // namespace

TEST_CASE("a head is the same wherever it is cut") {
    for (const auto& set : {std::span<const std::string>(good), std::span<const std::string>(bad)}) {
        for (const std::string& text : set) {
            CAPTURE(text.substr(0, 60));
            const outcome whole = parse(text);
            CHECK(whole.status != 0);
            CHECK(parse_cut(text, 1, 1) == whole);
            CHECK(parse_cut(text, 7, 3) == whole);
            if (text.size() > 1000) continue;
            for (std::size_t cut = 1; cut < text.size(); ++cut) CHECK(parse_cut(text, text.size(), cut) == whole);
        }
    }
}

TEST_CASE("a truncated head is neither done nor wrong") {
    for (const std::string& text : good) {
        for (std::size_t n = 0; n != text.size(); ++n) {
            const outcome o = parse(std::string_view(text).substr(0, n));
            CHECK(o.status == 0);
            CHECK(o.used == n);
        }
    }
}

TEST_CASE("nothing after the head is taken") {
    for (const std::string& text : good) CHECK(parse(text + text).used == text.size());
    CHECK(parse("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").used == 47);
}

TEST_CASE("a parser that was reset remembers nothing") {
    for (const std::string& first : good) {
        for (const std::string& second : good) {
            request_parser p(limits);
            p.feed(first);
            p.reset();
            CHECK_FALSE(p.begun());
            const std::size_t used = p.feed(second);
            CHECK(look(p, used) == parse(second));
        }
    }
}

TEST_CASE("the parts of a head are what was sent") {
    const outcome o = parse(good[3]);
    CHECK(o.target == "/metrics?name[]=a%20b");
    CHECK(o.host == "[::1]:9464");
    CHECK(o.accept == "a,b;q=0.5");
    CHECK(o.method == http_method::get);
    CHECK_FALSE(o.close);
    CHECK(parse(good[1]).old);
    CHECK(parse(good[2]).close);
    CHECK(parse(good[4]).content);
    CHECK_FALSE(parse(good[4]).expects);
    CHECK(parse("GET http://a?x=1 HTTP/1.1\r\nHost: b\r\n\r\n").target == "/?x=1");
    CHECK(parse("GET HTTPS://a HTTP/1.1\r\nHost: b\r\n\r\n").target == "/");
}

TEST_CASE("a request line that is too long is refused before its end") {
    const std::string start = "GET /", end = " HTTP/1.1";
    CHECK(parse(start + std::string(8192 - start.size(), 'a')).status == 0);
    CHECK(parse(start + std::string(8193 - start.size(), 'a')).status == 414);
    CHECK(line(start + std::string(8192 - start.size() - end.size(), 'a') + end) == 200);
    CHECK(line(start + std::string(8193 - start.size() - end.size(), 'a') + end) == 414);
    CHECK(parse("GET " + std::string("/%41", 1) + std::string(9000, 'b')).status == 414);
}

TEST_CASE("too many fields, and too large ones, are refused before their end") {
    const std::string start = "GET / HTTP/1.1\r\n";
    CHECK(parse(start + "X: " + std::string(16384 - 3, 'a')).status == 0);
    CHECK(parse(start + "X: " + std::string(16384 - 2, 'a')).status == 431);
    CHECK(parse(start + std::string(16384, 'N')).status == 0);
    CHECK(parse(start + std::string(16385, 'N')).status == 431);
    std::string fields = "Host: a\r\n";
    for (int i = 1; i != 100; ++i) fields += "A: b\r\n";
    CHECK(parse(start + fields + "\r\n").status == 200);
    CHECK(parse(start + fields + "A").status == 431);
}

TEST_CASE("a first octet that begins no token is refused at once") {
    for (std::string_view first : {"\x16", "\x80", "\xef\xbb\xbf", " ", "\t", "\n", "@", "{", "\"", "(", "\x7f"}) CHECK(parse(first).status == 400);
    CHECK(parse(std::string_view("\0", 1)).status == 400);
    request_parser p(limits);
    p.feed("\x16\x03\x01");
    CHECK(p.looks_like_tls());
}

TEST_CASE("a method is a token of at most 32 octets") {
    CHECK(line("M-SEARCH! / HTTP/1.1") == 200);
    CHECK(parse("M-SEARCH! / HTTP/1.1\r\nHost: a\r\n\r\n").method == http_method::unknown);
    CHECK(parse("get / HTTP/1.1\r\nHost: a\r\n\r\n").method == http_method::unknown);
    for (std::string_view known : {"POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT"})
        CHECK(parse(std::string(known) + " / HTTP/1.1\r\nHost: a\r\n\r\n").method == http_method::other);
    CHECK(line(std::string(32, 'A') + " / HTTP/1.1") == 200);
    CHECK(parse(std::string(33, 'A')).status == 501);
    for (std::string_view text : {"G@T", "G\tT", "GE\"T", "GET\r\n", "GET\n", "G(", "G\x80"}) CHECK(parse(text).status == 400);
}

TEST_CASE("a target has no controls, spaces, octets above 126, or fragment") {
    for (int c = 0; c != 256; ++c) {
        const char ch = static_cast<char>(c);
        const bool ok = c > 0x20 && c < 0x7f && ch != '#';
        CAPTURE(c);
        if (ch == ' ' || ch == '%') continue;
        CHECK(parse(std::string("GET /a") + ch).status == (ok ? 0 : 400));
        CHECK((parse(std::string("GET /a") + ch + "b").status == 400) == (!ok));
    }
    for (std::string_view text : {"GET  /", "GET \t/", "GET /a b HTTP/1.1", "GET / HTTP/1.1 ", "GET /  HTTP/1.1", "GET / \tHTTP/1.1", "GET / HTTP/1.1\t"})
        CHECK(line(text) == 400);
}

TEST_CASE("percent escapes are two hexadecimal digits and never NUL") {
    CHECK(line("GET /%41%7e%2F?%c3%A9 HTTP/1.1") == 200);
    for (std::string_view text : {"%", "%4", "%4g", "%zz", "%00", "a%%41", "%-1", "% 1", "?a=%", "?name[]=%00"})
        CHECK(line("GET /" + std::string(text) + " HTTP/1.1") == 400);
}

TEST_CASE("the forms of a target") {
    for (std::string_view text : {"metrics", "localhost:80", "?x", "http:/a/b", "http:///a", "http://:80/", "http://u:p@h/", "http://u@h/", "ftp://h/",
                                  "httpx://h/", "h", "http://h:65536/", "http://a b/", "*x", "http://[::1/", "//"}) {
        CAPTURE(text);
        CHECK(line("GET " + std::string(text) + " HTTP/1.1") == (text == "//" ? 200 : 400));
    }
    CHECK(line("GET * HTTP/1.1") == 400);
    CHECK(line("OPTIONS * HTTP/1.1") == 200);
    CHECK(line("CONNECT localhost:443 HTTP/1.1") == 400);
    CHECK(line("CONNECT a:443 HTTP/1.1") == 400);
    CHECK(parse("GET http://localhost/metrics HTTP/1.1\r\n\r\n").status == 400);
}

TEST_CASE("a version is one digit, a dot, one digit, and its major is 1") {
    for (std::string_view v : {"HTTP/1.0", "HTTP/1.1", "HTTP/1.2", "HTTP/1.9"}) CHECK(line("GET / " + std::string(v)) == 200);
    for (std::string_view v : {"HTTP/2.0", "HTTP/3.0", "HTTP/0.9", "HTTP/9.9"}) CHECK(line("GET / " + std::string(v)) == 505);
    CHECK(parse("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status == 505);
    for (std::string_view v : {"HTTP/1", "HTTP/1.", "HTTP/1.10", "HTTP/01.1", "HTTP/1.01", "HTTP/1,1", "HTTP/-1.1", "HTTP/+1.1", "HTTP/257.1", "http/1.1",
                               "Http/1.1", "ICAP/1.0", "HTTP/1.1.1", "HTTP/ 1.1", "HTTP", "HTTP/x.y", "HTTP/1.x", "/HTTP/1.1", "HTTP/22.0"})
        CHECK(line("GET / " + std::string(v)) == 400);
    CHECK(parse("GET /metrics\r\n\r\n").status == 400);  // HTTP/0.9
}

TEST_CASE("lines end in CR LF, and CR stands nowhere else") {
    for (std::string_view text :
         {"GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\r\r\n", "GET / HTTP/1.1\rX", "GET / HTTP/1.1\r\nHost: a\n", "GET / HTTP/1.1\r\nHost: a\r\r\n",
          "GET / HTTP/1.1\r\nX: a\rHost: b", "GET / HTTP/1.1\r\nHost: a\r\n\rX", "GET / HTTP/1.1\r\nHost: a\r\n\n", "\nGET", "\r\r\n", "\rG"})
        CHECK(parse(text).status == 400);
    CHECK(parse("\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").status == 200);
    CHECK(parse("\r\n\r\n\r\n\r\n\r").status == 400);
}

TEST_CASE("a field has a token for its name and no control in its value") {
    for (int c = 0; c != 256; ++c) {
        const char ch = static_cast<char>(c);
        CAPTURE(c);
        if (ch != '\r') CHECK((field(std::string("X: a") + ch + "b") == 200) == (ch == '\t' || (c >= 0x20 && c != 0x7f)));
        if (ch != '\r' && ch != ':') CHECK((field(std::string("X") + ch + "Y: b") == 200) == prom::detail::token_char(ch));
    }
    CHECK(field("!#$%&'*+-.^_`|~09aZ: b") == 200);
    for (std::string_view text : {"X : b", "X\t: b", ": b", "nocolon", " X: b", "\tX: b", "X: a\r\n b", "X: a\r\n\tb", "\"X\": b", "X Y: b"})
        CHECK(field(text) == 400);
    CHECK(field("X:") == 200);
    CHECK(field("X-A: 1\r\nX-A: 2\r\nContent_Length: 5\r\nContent-Lengthx: y") == 200);
    CHECK(parse("GET / HTTP/1.1\r\n Host: a\r\n\r\n").status == 400);
}

TEST_CASE("Host is there, once, and in the grammar") {
    CHECK(parse("GET / HTTP/1.1\r\n\r\n").status == 400);
    CHECK(parse("GET / HTTP/1.0\r\n\r\n").status == 200);
    CHECK(parse("GET / HTTP/1.1\r\nHost:\r\nHost: a\r\n\r\n").status == 400);
    CHECK(parse("GET / HTTP/1.0\r\nHost: a\r\nhost: a\r\n\r\n").status == 400);
    for (std::string_view ok : {"", "a", "A.B-c_~", "localhost:", "localhost:0", "localhost:65535", "127.0.0.1:80", "[::1]", "[::1]:80", "[::]", "[1:2:3:4:5:6:7:8]",
                                "[1::8]", "[::ffff:1.2.3.4]", "[1:2:3:4:5:6:1.2.3.4]", "[fe80::1:2]", "[v1.a:b]", "a%41b", "a,b", ":80"}) {
        CAPTURE(ok);
        CHECK(host(ok) == 200);
    }
    for (std::string_view no : {"a b", "a, b", "a/b", "u@h", "a<b>", "[::1", "::1", "a:b", "a:65536", "a:99999999999", "[::1]x", "[::1]:x", "[]", "[1:2]", "[1:2:3:4:5:6:7:8:9]",
                                "[1::2::3]", "[:::]", "[1:]", "[:1]", "[12345::]", "[::1.2.3]", "[::1.2.3.256]", "[::01.2.3.4]", "[v.a]", "[v1.]", "[vg.a]", "a%4", "a%zz",
                                "lo\xc3\xa9", "http://a", "a\\b", "a\"b", "[1:2:3:4:5:6:7::8:9]", "[1:2:3:4:5:6:7:1.2.3.4]", "[::g]", "a:8 0"}) {
        CAPTURE(no);
        CHECK(host(no) == 400);
    }
}

TEST_CASE("Content-Length is digits, once") {
    for (std::string_view ok : {"0", "5", "010", "000000000000000005", "999999999999999999"}) CHECK(field("Content-Length: " + std::string(ok)) == 200);
    for (std::string_view no : {"", "+5", "-5", "0x5", "5.0", "5e0", "5x", "5 5", "1_0", "\"5\"", "5, 5", "\xa0" "5", "1234567890123456789", "\xd9\xa5"})
        CHECK(field("Content-Length: " + std::string(no)) == 400);
    CHECK(field("Content-Length: 5\r\nContent-Length: 5") == 400);
    CHECK_FALSE(parse("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").content);
    CHECK(parse("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 010\r\n\r\n").content);
}

TEST_CASE("Transfer-Encoding is exactly chunked, alone, and not in HTTP/1.0") {
    CHECK(field("Transfer-Encoding: chunked") == 200);
    CHECK(field("transfer-encoding:CHUNKED") == 200);
    for (std::string_view yes : {",chunked", "chunked,", " , ,\tchunked , ,"}) CHECK(field("Transfer-Encoding: " + std::string(yes)) == 200);
    for (std::string_view no : {",", "chunked,,chunked", ",chunked,gzip", "", "gzip", "identity", "chunked, gzip", "chunked, chunked", "chunked;q=1", "\"chunked\"", "chunkedx", "xchunked", "chunked chunked"})
        CHECK(field("Transfer-Encoding: " + std::string(no)) == 400);
    CHECK(field("Transfer-Encoding: gzip, chunked") == 501);
    CHECK(field("Transfer-Encoding: ,gzip,,chunked,") == 501);
    CHECK(field("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked") == 400);
    CHECK(field("Transfer-Encoding: chunked\r\nContent-Length: 5") == 400);
    CHECK(field("Content-Length: 5\r\nTransfer-Encoding: chunked") == 400);
    CHECK(field("Transfer-Encoding: chunked", "POST / HTTP/1.0") == 400);
}

TEST_CASE("Connection is a list of words") {
    const auto closes = [](std::string_view value) {
        return parse("GET / HTTP/1.1\r\nHost: a\r\nConnection: " + std::string(value) + "\r\n\r\n").close;
    };
    for (std::string_view yes : {"close", "ClOsE", "foo, close, bar", "keep-alive,close", ",close", "close,", ", ,close, ,", "x\r\nConnection: close"}) CHECK(closes(yes));
    for (std::string_view no : {"", "keep-alive", "enclose", "closed", "close;x", "\"close\"", "c lose"}) CHECK_FALSE(closes(no));
}

TEST_CASE("an Expect other than 100-continue is seen, but not in HTTP/1.0") {
    CHECK_FALSE(parse("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-CONTINUE\r\n\r\n").expects);
    CHECK(parse("GET / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n").expects);
    CHECK(parse("GET / HTTP/1.1\r\nHost: a\r\nExpect:\r\n\r\n").expects);
    for (std::string_view yes : {",100-continue", "100-continue,", " ,, 100-Continue ,", "100-continue,,", "100-continue, ,\t,", ",100-continue,,100-continue,,"})
        CHECK_FALSE(parse("GET / HTTP/1.1\r\nHost: a\r\nExpect: " + std::string(yes) + "\r\n\r\n").expects);
    for (std::string_view no : {",", ", ,,", ",200-ok", "100-continue,,200-ok", "100-continue,200-ok", "200-ok,100-continue"})
        CHECK(parse("GET / HTTP/1.1\r\nHost: a\r\nExpect: " + std::string(no) + "\r\n\r\n").expects);
    CHECK_FALSE(parse("GET / HTTP/1.0\r\nHost: a\r\nExpect: 200-ok\r\n\r\n").expects);
}

TEST_CASE("two Authorization fields are refused") { CHECK(field("Authorization: a\r\nAuthorization: a") == 400); }

TEST_CASE("a path is compared octet by octet after one decoding, and %2F is no slash") {
    using prom::detail::same_path;
    for (std::string_view yes : {"/metrics", "/m%65trics", "/%6d%65trics"}) CHECK(same_path(yes, "/metrics"));
    for (std::string_view no : {"/", "/metrics/", "//metrics", "/Metrics", "%2Fmetrics", "/metric", "/metrics%00", "/./metrics", "/m%2565trics"})
        CHECK_FALSE(same_path(no, "/metrics"));
    CHECK_FALSE(same_path("/a%2fb", "/a/b"));
}

TEST_CASE("an escape that is cut is no escape") {
    for (std::string_view cut : {"a%", "a%4", "%"}) {
        std::string text(cut);
        CHECK(prom::detail::percent_decode(text.data(), text.size(), false) == cut.size());
        CHECK(text == cut);
    }
}

TEST_CASE("name[] is found in a query, decoded once") {
    const auto names = [](std::string_view asked, std::size_t limit = 256) {
        prom::detail::string target(asked);
        prom::detail::vector<std::string_view> found;
        std::string text;
        if (!prom::detail::query_names(target, limit, found)) return std::string("no");
        for (std::string_view n : found) text += std::string(n) + '|';
        return text;
    };
    CHECK(names("/m") == "");
    CHECK(names("/m?") == "");
    CHECK(names("/m?name[]=a&name%5B%5D=b&name[]=") == "a|b|");
    for (const char* empty : {"/m?name[]", "/m?name[]=", "/m?name%5b%5d=&name[]", "/m?name[]=&"}) CHECK(names(empty) == "");
    CHECK(names("/m?x=1&name[]=a+b%20c%2bd&y") == "a b c+d|");
    CHECK(names("/m?name[]=a?b=c;d") == "a?b=c;d|");
    CHECK(names("/m?&&&&===&=&name[]&name=x&names[]=y") == "");
    CHECK(names("/m?name%5b]=%25%34%31") == "%41|");
    CHECK(names("/m?n%61me[]=x") == "x|");
    CHECK(names("/m?name[]=" + std::string(512, 'a')) == std::string(512, 'a') + '|');
    CHECK(names("/m?name[]=" + std::string(513, 'a')) == "no");
    CHECK(names("/m?name[]=a&name[]=b", 1) == "no");
}

// These texts are so long that quadratic code does not end before the test's time is up.
TEST_CASE("what a client or an agent chooses is looked at once, whatever it is made of") {
    const auto long_of = [](std::string_view part, std::size_t size) {
        std::string text;
        while (text.size() < size) text += part;
        return text;
    };
    for (std::string_view part : {"&", "=", "&a", "a&b=", "name[]=&", "%26", "+", "?", "q=x&"}) {
        prom::detail::string target("/metrics?" + long_of(part, 4'000'000));
        prom::detail::vector<std::string_view> found;
        CHECK(prom::detail::query_names(target, 256, found));
        CHECK(found.empty());
    }
    for (std::string_view part : {",", ";", "\"", "\\", "=", "a,", "a=\"b\\\"\";", "\",", " ", "*/*;q=0,", "gzip;q=0,", "text/plain;q=0.3;escaping=values,", "\t,"}) {
        const std::string list = long_of(part, 400'000);
        CHECK(prom::negotiate(list, list).as == prom::format::text_0_0_4);
    }
    for (std::string_view part : {"Accept: ,\r\n", "Accept:\r\n", "Connection: ,a\r\n", "Expect: ,\r\n", "X: y\r\n", "a:\r\n", "Accept-Encoding: gzip;q=\r\n"}) {
        prom::server_limits wide;
        wide.header_bytes = wide.header_fields = 1'000'000;
        for (std::size_t piece : {std::size_t{1}, std::size_t{1'000'000}}) {
            prom::detail::request_parser p(wide);
            const std::string head = "GET / HTTP/1.1\r\nHost: x\r\n" + long_of(part, 300'000) + "\r\n";
            for (std::size_t at = 0; at < head.size(); at += piece) p.feed(std::string_view(head).substr(at, piece));
            CHECK(p.done());
        }
    }
    for (std::string_view part : {"1\r\na\r\n", "1;\r\na\r\n", "0001\r\na\r\n", "1;a=b\r\na\r\n"})
        for (std::size_t piece : {std::size_t{1}, std::size_t{1'000'000}}) {
            prom::detail::response_parser p;
            const std::string answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + long_of(part, 400'000);
            for (std::size_t at = 0; at < answer.size(); at += piece) p.feed(std::string_view(answer).substr(at, piece));
            CHECK((p.body.size() > 1000 || *p.fault() != '\0'));
        }
    prom::detail::string said(long_of("a", 1'000'000) + "token token.");
    prom::detail::redact(said, "a");
    CHECK(said.size() == 7'000'000 + 12);
    prom::detail::redact(said, "token");
    CHECK(said.ends_with("[[token]][[token]][token] [token]."));
    said = "nothing of it";
    prom::detail::redact(said, "token");
    prom::detail::redact(said, "");
    CHECK(said == "nothing of it");
}

TEST_CASE("dates are IMF-fixdate") {
    const auto date = [](double wall) {
        char text[29];
        prom::detail::http_date(wall, text);
        return std::string(text, 29);
    };
    CHECK(date(0) == "Thu, 01 Jan 1970 00:00:00 GMT");
    CHECK(date(784111777) == "Sun, 06 Nov 1994 08:49:37 GMT");
    CHECK(date(951782399.9) == "Mon, 28 Feb 2000 23:59:59 GMT");
    CHECK(date(951782400) == "Tue, 29 Feb 2000 00:00:00 GMT");
    CHECK(date(4107542400) == "Mon, 01 Mar 2100 00:00:00 GMT");
    CHECK(date(1767225599) == "Wed, 31 Dec 2025 23:59:59 GMT");
    CHECK(date(253402300799.0) == "Fri, 31 Dec 9999 23:59:59 GMT");
    CHECK(date(-5) == "Thu, 01 Jan 1970 00:00:00 GMT");
    CHECK(date(1e300) == "Thu, 01 Jan 1970 00:00:00 GMT");
}

TEST_CASE("each status that is sent has its reason, and no other has one") {
    const std::map<int, std::string_view> sent = {
        {200, "OK"}, {204, "No Content"}, {400, "Bad Request"}, {401, "Unauthorized"}, {404, "Not Found"}, {405, "Method Not Allowed"},
        {408, "Request Timeout"}, {414, "URI Too Long"}, {417, "Expectation Failed"}, {421, "Misdirected Request"},
        {431, "Request Header Fields Too Large"}, {500, "Internal Server Error"}, {501, "Not Implemented"}, {503, "Service Unavailable"},
        {505, "HTTP Version Not Supported"}};
    for (int status = 100; status != 600; ++status) {
        const auto at = sent.find(status);
        CHECK_MESSAGE(prom::detail::reason_of(status) == (at == sent.end() ? "" : at->second), status);
    }
}
