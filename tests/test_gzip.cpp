// libs: -lz
// needs-network
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include "support/allocations.hpp"
#include "support/answers.hpp"
#include "support/inflate.hpp"
#include "support/pages.hpp"
#include "support/served.hpp"
#include <doctest/doctest.h>

#include <array>
#include <memory>
#include <random>

namespace prom = prometheus_async;
using prom::detail::gzip_stream;
using test_inflate::gunzip;
using test_inflate::zlib_1;

namespace {

/// The member that comes of `text`, taken in `window` octets at a time, given in `piece` octets.
std::string member(gzip_stream& g, std::string_view text, std::size_t window = 8192, std::size_t piece = 1 << 20) {
    std::string made, out(window, '\0');
    g.start();
    for (;;) {
        const gzip_stream::piece p = g.next(out);
        REQUIRE(p.bytes <= window);
        made.append(out, 0, p.bytes);
        if (p.what == gzip_stream::made::done) return made;
        if (p.what == gzip_stream::made::full) continue;
        if (text.empty()) g.finish();
        REQUIRE(g.room().size() >= gzip_stream::least_room);
        const std::size_t n = text.copy(g.room().data(), std::min(piece, g.room().size()));
        g.add(n);
        text.remove_prefix(n);
    }
}
bool comes_back(gzip_stream& g, std::string_view text, std::size_t window = 8192, std::size_t piece = 1 << 20) {
    std::string back;
    return gunzip(member(g, text, window, piece), back) && back == text;
}

using pages::counters;
using pages::labels_in_turn;
std::string histograms(int n) {
    prom::registry r;
    const prom::family<prom::histogram, "path"> f{"http_seconds", "Time.", {.registry = &r}};
    std::mt19937_64 random(5);
    for (int i = 0; i < n; ++i)
        for (int k = 0; k < 30; ++k) f("/item/" + std::to_string(i)).observe(static_cast<double>(random() % 10000) * 1e-3);
    return pages::of(r);
}
std::string any_octets(std::size_t size, unsigned different, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    std::string text(size, '\0');
    for (char& c : text) c = static_cast<char>(random() % different);
    return text;
}

}  // namespace

TEST_CASE("a page comes back through zlib, whatever the windows and the pieces") {
    const auto g = std::make_unique<gzip_stream>();
    const std::string page = counters(900) + histograms(40);
    REQUIRE(page.size() > 65536 + 16384);
    const std::string once = member(*g, page);
    for (const std::size_t window : std::initializer_list<std::size_t>{1, 2, 3, 7, 8, 9, 15, 16, 17, 24, 63, 64, 511, 512, 513, 16384, 1 << 20}) {
        CAPTURE(window);
        CHECK(member(*g, page, window) == once);
    }
    for (const std::size_t piece : std::initializer_list<std::size_t>{1, 2, 77, 1000, 16384}) {
        CAPTURE(piece);
        CHECK(comes_back(*g, page, 4096, piece));
    }
    std::string back;
    CHECK(gunzip(once, back));
    CHECK(back == page);
}

TEST_CASE("a number without end, where a value may stand, comes back") {
    const auto g = std::make_unique<gzip_stream>();
    for (const char* before : {"x ", "x{l=\"", "# x ", "\n", " 1\n"})
        for (const char filler : {'A', '7', '\xd4'})
            for (int size = 60; size < 70000; size += size < 200 ? 1 : size / 3) {
                std::string text = "y 1\n" + std::string(before) + " 1" + std::string(static_cast<std::size_t>(size), filler) + "\n";
                for (char& c : text) if (c == 'A') c = static_cast<char>('A' + (&c - text.data()) * 31 % 57);
                text += text;
                CAPTURE(before);
                CAPTURE(size);
                REQUIRE(comes_back(*g, text));
            }
    // A label value that a client chooses may be such a one in a protobuf page: there a newline begins the next field.
    prom::registry r;
    const prom::family<prom::counter, "a", "b"> f{"requests_total", "Requests.", {.registry = &r}};
    std::string path = "/ 1";
    for (int i = 0; i < 15000; ++i) path += static_cast<char>('!' + i * i % 90);
    f(path, "b").inc();
    const std::array<prom::registry*, 1> one{&r};
    for (const prom::format as : {prom::format::text_0_0_4, prom::format::openmetrics_1_0_0, prom::format::protobuf, prom::format::openmetrics_2_0_0})
        CHECK(comes_back(*g, prom::expose({.as = as, .registries = one})));
}

TEST_CASE("octets of any kind come back, also at the edges of the buffer") {
    const auto g = std::make_unique<gzip_stream>();
    for (const std::size_t size : std::initializer_list<std::size_t>{0, 1, 2, 3, 4, 5, 8, 63, 64, 258, 259, 320, 321, 1024, 16383, 16384, 16385, 31743, 31744, 31745, 32446, 32447, 32448, 32766, 32767, 32768,
                             32769, 49152, 65535, 65536, 65537, 100000}) {
        CAPTURE(size);
        for (const unsigned different : std::initializer_list<unsigned>{1, 2, 3, 17, 256}) CHECK(comes_back(*g, any_octets(size, different, size)));
        for (char c : {'\n', '#', ' ', '\xff'}) CHECK(comes_back(*g, std::string(size, c)));
        std::string lines;
        while (lines.size() < size) lines += "# a b\na " + std::to_string(lines.size() * 7919) + "\n";
        CHECK(comes_back(*g, lines.substr(0, size)));
    }
    for (std::size_t n : {319u, 320u, 321u, 5000u, 40000u}) {  // lines longer than what is held back
        CHECK(comes_back(*g, "a " + std::string(n, 'x') + "\nb 1\n" + "# " + std::string(n, 'y') + "\nb " + std::string(n, '7') + "\n"));
        CHECK(comes_back(*g, any_octets(n, 10, n) + " " + any_octets(n, 10, n) + "\n#" + any_octets(n, 10, n)));
    }
}

TEST_CASE("codes whose natural length is more than 15 bits are cut, and remain right") {
    const auto g = std::make_unique<gzip_stream>();
    std::string text;  // each octet as often as the Fibonacci numbers say: a tree of 18 levels
    std::size_t a = 1, b = 1;
    for (char c = 1; text.size() < 12000; ++c) {
        text.append(a, c);
        b += std::exchange(a, b);
    }
    std::shuffle(text.begin(), text.end(), std::mt19937(3));
    CHECK(comes_back(*g, text));
    std::uint16_t often[286] = {};
    std::uint8_t lengths[286];
    for (unsigned i = 0, x = 1, y = 1; y < 30000; ++i) {
        often[i * 3] = static_cast<std::uint16_t>(x);
        y += std::exchange(x, y);
    }
    for (unsigned longest : {15u, 7u, 5u}) {
        prom::detail::code_lengths(often, 286, longest, lengths);
        std::uint32_t sum = 0;
        for (unsigned i = 0; i < 286; ++i) {
            CHECK((lengths[i] != 0) == (often[i] != 0));
            CHECK(lengths[i] <= longest);
            if (lengths[i]) sum += 1u << (longest - lengths[i]);
        }
        CHECK(sum == 1u << longest);
    }
}

TEST_CASE("the checksum is zlib's, with the machine's instructions and without") {
    prom::detail::crc32 fast, plain;
    plain.plain();
    const std::string text = any_octets(3000, 256, 1);
    for (std::size_t size = 0; size < 300; ++size)
        for (const std::size_t from : {std::size_t{0}, std::size_t{1}, std::size_t{5}, std::size_t{16}}) {
            const std::string_view part = std::string_view(text).substr(from, size);
            const auto right = static_cast<std::uint32_t>(::crc32(static_cast<uLong>(size * 77777), reinterpret_cast<const Bytef*>(part.data()), static_cast<uInt>(size)));
            CHECK(fast.of(static_cast<std::uint32_t>(size * 77777), part) == right);
            CHECK(plain.of(static_cast<std::uint32_t>(size * 77777), part) == right);
        }
    CHECK(fast.of(0, "123456789") == 0xcbf43926);
}

TEST_CASE("a stream that is used again makes the same of the same") {
    const auto g = std::make_unique<gzip_stream>();
    const std::string page = counters(300), first = member(*g, page);
    member(*g, any_octets(70000, 256, 9));
    g->start();
    g->add(std::string_view("given up").copy(g->room().data(), 8));
    CHECK(member(*g, page) == first);
    CHECK(g->taken() == page.size());
}

TEST_CASE("pages and prose take fewer octets than zlib's fastest needs") {
    const auto g = std::make_unique<gzip_stream>();
    const std::string many = counters(10000), slow = histograms(300);
    CHECK(member(*g, many).size() * 100 < zlib_1(many) * 76);
    CHECK(member(*g, slow).size() * 100 < zlib_1(slow) * 97);
    const std::string in_turn = labels_in_turn(10000);
    CHECK(member(*g, in_turn).size() * 100 < zlib_1(in_turn) * 71);
    CHECK(member(*g, any_octets(100000, 256, 4)).size() < 110000);
    std::string prose;
    for (int i = 0; i < 200; ++i)
        prose += "# HELP a_metric_" + std::to_string(i) + "_seconds The time that part " + std::to_string(i * i) + " of the program took, in seconds.\n# TYPE a_metric_" +
                 std::to_string(i) + "_seconds gauge\na_metric_" + std::to_string(i) + "_seconds " + std::to_string(i * 0.37) + "\n";
    CHECK(member(*g, prose).size() * 100 <= zlib_1(prose) * 92);
}

// ---- server_stats and the server ----

TEST_CASE("server_stats compresses for who asks, where it is worth it") {
    prom::registry r;
    const std::array<prom::registry*, 1> one{&r};
    prom::counter c{"a_total", "Help.", {.registry = &r}};
    const auto page = [&](std::string_view accept_encoding) { return prom::server_stats({.accept_encoding = accept_encoding, .registries = one}); };
    const std::string small = page("").body;
    CHECK(page("gzip").body == small);
    CHECK(page("gzip").content_encoding == "");
    std::string back;
    const prom::stats_page forced = page("gzip, identity;q=0");
    CHECK(forced.content_encoding == "gzip");
    REQUIRE(gunzip(forced.body, back));
    CHECK(back == small);
    CHECK(page("gzip, *;q=0").content_encoding == "gzip");
    CHECK(page("gzip, *;q=0, identity;q=0.1").content_encoding == "");

    const prom::family<prom::counter, "n"> f{"b_total", "Help.", {.registry = &r}};
    for (int i = 0; i < 5000; ++i) f(i).inc();
    const prom::stats_page big = page("gzip;q=0.5, deflate");
    CHECK(big.content_encoding == "gzip");
    REQUIRE(gunzip(big.body, back));
    CHECK(back == page("").body);
    for (std::string_view no : {"", "identity", "*", "gzip;q=0", "identity;q=0", "br"}) CHECK(page(no).content_encoding == "");
}

namespace {

struct scraped {
    prom::registry mine;
    std::array<prom::registry*, 1> one{&mine};
    std::array<prom::route, 1> routes{{{.path = "/metrics", .registries = one}}};
    prom::family<prom::counter, "n"> f{"b_total", "Help.", {.registry = &mine}};
    scraped() = default;
    explicit scraped(int series) {
        for (int i = 0; i < series; ++i) f(i).inc(static_cast<std::uint64_t>(i) * 7919 % 1009);
    }
    std::string page() { return prom::expose({.registries = one}); }
};

test_client::answer asked(caller& c, std::string_view fields, std::string_view method = "GET") {
    std::string got = c.ask("/metrics", fields, method);
    test_client::answer a;
    REQUIRE(test_client::take_answer(got, method == "HEAD", false, a));
    CHECK(got.empty());
    CHECK(a.status == 200);
    return a;
}

}  // namespace

TEST_CASE("a scrape that asks for gzip gets the page, compressed, on a connection that goes on") {
    for (int series : {100, 2000, 30000}) {
        CAPTURE(series);
        scraped s(series);
        served at({.routes = s.routes});
        caller c(at);
        for (int round = 0; round < 2; ++round) {
            const auto a = asked(c, "Accept-Encoding: gzip\r\n");
            CHECK(a.field("Content-Encoding") == "gzip");
            CHECK(a.field("Vary") == "Accept, Accept-Encoding");
            CHECK((a.field("Content-Length") == std::to_string(a.body.size())) == (series < 30000));  // it fits the first buffer
            CHECK((a.field("Transfer-Encoding") == "chunked") == (series == 30000));
            std::string back;
            REQUIRE(gunzip(a.body, back));
            CHECK(back == s.page());
        }
        const auto head = asked(c, "Accept-Encoding: gzip\r\n", "HEAD");
        CHECK(head.body.empty());
        CHECK(head.field("Content-Encoding") == "gzip");
        CHECK(head.field("Content-Length").empty() == (series == 30000));
        const auto plain = asked(c, "Accept-Encoding: gzip;q=0, *\r\n");
        CHECK(plain.field("Content-Encoding") == "");
        CHECK(plain.field("Vary") == "Accept, Accept-Encoding");
        CHECK(plain.body == s.page());
    }
}

TEST_CASE("after the first compressed page of a connection nothing is allocated, and 64 KiB for it only where it asks") {
    scraped s(30000);
    served at({.routes = s.routes});
    caller c(at);
    const auto allocated_by = [&](std::string_view fields) {
        c.got.clear();
        c.got.reserve(4 << 20);
        const std::string request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n" + std::string(fields) + "\r\n";
        const long before = allocations;
        c.send(request);
        const bool whole = at.until([&] {
            c.take();
            return c.whole();
        });
        const long made = allocations - before;
        REQUIRE(whole);
        return made;
    };
    allocated_by("");
    CHECK(allocated_by("") == 0);
    const std::size_t before = live;
    CHECK(allocated_by("Accept-Encoding: gzip\r\n") == (counts_allocations ? 1 : 0));
    CHECK(live - before <= (counts_allocations ? 65536 + 64 : 0));
    CHECK(allocated_by("Accept-Encoding: gzip\r\n") == 0);
    CHECK(allocated_by("") == 0);
    CHECK(allocated_by("Accept-Encoding: gzip\r\n") == 0);
}

TEST_CASE("a small page is left as it is, unless only gzip will do; a server without gzip compresses nothing") {
    scraped s(5), big(3000);
    {
        served at({.routes = s.routes});
        caller c(at);
        CHECK(asked(c, "Accept-Encoding: gzip\r\n").body == s.page());
        const auto a = asked(c, "Accept-Encoding: gzip, identity;q=0\r\n");
        CHECK(a.field("Content-Encoding") == "gzip");
        std::string back;
        REQUIRE(gunzip(a.body, back));
        CHECK(back == s.page());
    }
    served at({.routes = big.routes, .gzip = false});
    caller c(at);
    for (std::string_view field : {"Accept-Encoding: gzip\r\n", "Accept-Encoding: gzip, identity;q=0\r\n"}) {
        const auto a = asked(c, field);
        CHECK(a.field("Content-Encoding") == "");
        CHECK(a.field("Vary") == "Accept");
        CHECK(a.body == big.page());
    }
}

TEST_CASE("an HTTP/1.0 client gets a long compressed page up to the end of its connection") {
    scraped s(30000);
    served at({.routes = s.routes});
    caller c(at);
    c.send("GET /metrics HTTP/1.0\r\nAccept-Encoding: gzip\r\nConnection: keep-alive\r\n\r\n");
    CHECK(c.ends());
    test_client::answer a;
    REQUIRE(test_client::take_answer(c.got, false, true, a));
    std::string back;
    REQUIRE(gunzip(a.body, back));
    CHECK(back == s.page());
}

TEST_CASE("a collector that fails in a compressed page ends the connection: the page never looks whole") {
    for (int series : {10, 3000, 30000}) {
        CAPTURE(series);
        scraped s(series);
        const auto failing = s.mine.add_collector([](prom::sample_sink& to) { to.fail("not today"); });
        served at({.routes = s.routes, .on_collector_error = prom::collector_errors::fail});
        caller c(at);
        c.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n");
        CHECK(c.at.until([&] {
            c.take();
            return c.over() || c.whole();
        }));
        test_client::answer a;
        std::string got = c.got;
        const bool whole = test_client::take_answer(got, false, false, a);
        CHECK(whole == (series < 30000));
        if (whole) CHECK(a.status == 500);
    }
}
