// Rooms [61], [68].
// needs-network
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include "support/scripted_peer.hpp"

#include <cctype>
#include <cerrno>
#include <functional>
#include <utility>
#include <sys/un.h>
#include <sys/wait.h>

namespace prom = prometheus_async;
using namespace prometheus_async::detail;
using namespace scripted;

namespace {

struct text_of {
    const char* octets;
    std::size_t size;
    std::string str() const { return {octets, size}; }
};
struct repeated {
    text_of text;
    int times = 0;
};
struct response_case {
    const char* id;
    repeated parts[4];
    bool ok;
    int status;
    bool has_body;
    text_of body;
    bool reuse, eof;
};
struct injection_case {
    const char* field;
    text_of value;
};
struct escaping_case {
    text_of input, json, path;
};
#include "http/client_cases.inc"

using status = response_parser::status;

status feed(response_parser& p, const std::string& octets, std::size_t step) {
    status s = status::more;
    for (std::size_t i = 0; i < octets.size(); i += step) s = p.feed(std::string_view(octets).substr(i, step));
    return s;
}

/// One GET to an endpoint, with everything that it needs.
struct asking {
    explicit asking(std::string_view where, prom::tls_config tls = {}, http_deadlines limits = {})
        : to(*parse_endpoint(where, false, 80, 443)), client(loop, scope, to, tls, limits) {}
    prom::task<prom::result<http_response>> ask(std::string_view body = {}) {
        http_request request{body.empty() ? "GET" : "PUT", "/v1/x?y=%20", "X-Token", token, body};
        const prom::result<void> connected = co_await client.connect(request);
        if (!connected) co_return connected.why();
        co_return co_await client.exchange(request);
    }

    prom::event_loop loop{on_fake_time()};
    wait_scope scope;
    http_endpoint to;
    std::string token;
    http_client client;
};

/// A client and a peer that says `says`.
struct talk {
    explicit talk(answer says, prom::tls_config tls = {}) : client("127.0.0.1", tls), there(client.loop, [says](const std::string&) { return says; }) {
        client.to.port = there.port;
        client.to.tls = static_cast<bool>(tls);
    }
    prom::result<http_response> ask(std::string_view body = {}) { return finish(client.loop, client.ask(body)); }
    asking client;
    peer there;
};

prom::errc code(const prom::result<http_response>& r) { REQUIRE(!r); return r.why().code(); }

}  // namespace

TEST_CASE("every response of the case file is judged alike, whole and octet by octet") {
    for (const response_case& c : response_cases) {
        CAPTURE(c.id);
        std::string octets;
        for (const repeated& part : c.parts)
            for (int i = 0; i != part.times; ++i) octets += part.text.str();
        for (std::size_t step : {octets.size() + 1, std::size_t{1}, std::size_t{7}}) {
            CAPTURE(step);
            response_parser p;
            status s = feed(p, octets, step);
            if (c.eof) s = p.finish();
            REQUIRE(s == (c.ok ? status::done : status::failed));
            if (!c.ok) {
                CHECK(p.fault()[0] != '\0');
                continue;
            }
            CHECK(p.code() == c.status);
            CHECK(p.reusable() == c.reuse);
            if (c.has_body) CHECK(p.body == c.body.str());
        }
    }
}

TEST_CASE("framing that two readers could read differently is refused") {
    const std::string head = "HTTP/1.1 200 OK\r\n";
    for (std::string rest : {"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
                             "Content-Length: 2, 3\r\n\r\nok", "Content-Length: \r\n\r\n", "Content-Length: 0x2\r\n\r\nok", "Content-Length: 2,\r\n\r\nok",
                             "Content-Length: 1234567890123456789\r\n\r\n", "Transfer-Encoding: gzip, chunked\r\n\r\n", "Transfer-Encoding: ,\r\n\r\n", "Transfer-Encoding: chunked,,chunked\r\n\r\n", "Content-Length: ,2\r\n\r\nok", "Content-Length: 2,,2\r\n\r\nok", "Transfer-Encoding: identity\r\n\r\nok",
                             "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n2\nok\r\n", "Transfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n",
                             "Transfer-Encoding: chunked\r\n\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n2 \r\nok\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n100001\r\n",
                             "Transfer-Encoding: chunked\r\n\r\n00000000000000002\r\nok", "X\r\n\r\n", ": x\r\n\r\n", " X: y\r\n\r\n", "X: \x01\r\n\r\n", "X: y\n\r\n", "X: y\r\r\n"}) {
        CAPTURE(rest);
        for (std::size_t step : {std::size_t{1000}, std::size_t{1}}) {
            response_parser p;
            CHECK(feed(p, head + rest, step) == status::failed);
        }
    }
    response_parser old;
    CHECK(feed(old, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 99) == status::failed);
}

TEST_CASE("what is unusual but clear is accepted, and the connection not reused where it was sloppy") {
    const auto reads = [](const std::string& octets, bool reuse) {
        response_parser p;
        CAPTURE(octets);
        CHECK(feed(p, octets, 1) == status::done);
        CHECK(p.body == "ok");
        CHECK(p.reusable() == reuse);
    };
    reads("HTTP/1.1 200 \r\ncontent-length:2\r\n\r\nok", true);
    reads("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true);
    reads("HTTP/1.1 200 OK\r\nTRANSFER-ENCODING: Chunked\r\n\r\n1 ; a=\"b\"\r\no\r\n0000000000000001\r\nk\r\n0;x\r\nT: 1\r\nU: 2\r\n\r\n", true);
    reads("HTTP/1.1 200 OK\r\nTransfer-Encoding: ,chunked, ,\r\n\r\n2\r\nok\r\n0\r\n\r\n", true);
    reads("HTTP/1.1 200 OK\r\nConnection: ,,keep-alive,\r\nContent-Length: 2\r\n\r\nok", true);
    reads("HTTP/1.1 200 OK\r\nConnection: , close ,\r\nContent-Length: 2\r\n\r\nok", false);
    reads("HTTP/1.1 200 OK\r\nConnection: keep-alive, Close\r\nContent-Length: 2\r\n\r\nok", false);
    reads("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\nContent-Length: 2\r\n\r\nok", false);
    reads("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1", false);
}

TEST_CASE("a status line is a version, a space, three digits, and the end or a space and a reason") {
    const auto is = [](const std::string& line) {
        response_parser p;
        return feed(p, line + "\r\nContent-Length: 0\r\n\r\n", 999) == status::done ? p.code() : 0;
    };
    for (const char* good : {"HTTP/1.1 204", "HTTP/1.1 204 ", "HTTP/1.0 204 X", "HTTP/1.1 204 No Content", "HTTP/1.9 204 \xff\t"}) CHECK_MESSAGE(is(good) == 204, good);
    for (const char* bad : {"", "H", "HTTP/1.1", "HTTP/1.1 ", "HTTP/1.1 2", "HTTP/1.1 20", "HTTP/1.1 2040", "HTTP/1.1 204X", "HTTP/1.1 204\tX", "HTTP/1.1  204", "HTTP/1.1 +04 X",
                            "HTTP/1.1 2x4 X", "HTTP/1.1 20x X", "HTTP/1.1 x04 X", "HTTP/2.0 204 X", "HTTP/1. 204 X", "HTTP/1.x 204 X", "http/1.1 204 X", "HTTP/1.1\t204 X"}) CHECK_MESSAGE(is(bad) == 0, bad);
}

TEST_CASE("Retry-After is read with a cap, and a date is not read") {
    const auto reads = [](const std::string& value) {
        response_parser p;
        feed(p, "HTTP/1.1 429 X\r\nRetry-After: " + value + "\r\nContent-Length: 0\r\n\r\n", 99);
        return p.retry_after();
    };
    CHECK(reads("7") == 7);
    CHECK(reads("1234") == 1234);
    CHECK(reads("3599") == 3599);
    CHECK(reads("3601") == 3600);
    CHECK(reads("99999999999999") == 3600);
    CHECK(reads("Fri, 31 Dec 1999 23:59:59 GMT") == 0);
}

TEST_CASE("a body larger than the limit is refused before it is stored") {
    response_parser p(10);
    CHECK(feed(p, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n3\r\n", 1) == status::failed);
    response_parser q(10);
    CHECK(feed(q, "HTTP/1.1 200 OK\r\n\r\n12345678901", 4) == status::failed);
}

TEST_CASE("what would split a request is rejected before anything connects") {
    prom::event_loop loop(on_fake_time());
    peer there(loop, [](const std::string&) { return http(200); });
    for (const injection_case& c : injection_cases) {
        CAPTURE(c.field);
        const std::string field = c.field, value = c.value.str();
        http_endpoint to;
        to.host = field == "host" ? value : "127.0.0.1";
        to.port = there.port;
        wait_scope scope;
        http_client client(loop, scope, to, {});
        const std::string target = field == "path" ? value : "/", name = "X-Token", secret = field == "token" || field == "header" ? value : "";
        const http_request request{"GET", target, name, secret};
        const auto r = finish(loop, client.connect(request));
        REQUIRE(!r);
        CHECK(r.why().code() == prom::errc::invalid_option);
    }
    CHECK(there.connections == 0);
}

TEST_CASE("every part of a request has only the octets that it may have, whatever else it has") {
    for (int octet = 0; octet != 256; ++octet) {
        CAPTURE(octet);
        const std::string with = std::string("/a") + static_cast<char>(octet) + "z", name = with.substr(1);
        const char c = static_cast<char>(octet);
        const bool token = octet < 128 && c != 0 && (std::isalnum(octet) || std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos);
        const bool visible_one = octet > 0x20 && octet < 0x7f;
        const auto good = [](const http_request& r) { return r.flaw() == nullptr; };
        CHECK(good({name, "/", {}}) == token);
        CHECK(good({"GET", with, {}}) == visible_one);
        CHECK(good({"GET", "/", name, "x"}) == token);
        CHECK(good({"GET", "/", "X", with}) == visible_one);
        CHECK(good({.method = "GET", .target = "/", .secret_name = {}, .authorization = with}) == (visible_one || octet == ' '));
    }
    for (const http_request& bad : {http_request{"", "/", {}}, http_request{"GET", "", {}}, http_request{"GET", "a", {}}}) CHECK(bad.flaw() != nullptr);
}

TEST_CASE("a text becomes one path segment") {
    for (const escaping_case& c : escaping_cases) {
        CAPTURE(c.input.str());
        if (c.path.size) CHECK(percent_encoded(c.input.str()) == c.path.str());
    }
}

TEST_CASE("an agent's address is read as its users write it") {
    const auto reads = [](std::string_view text, bool tls = false) {
        auto to = parse_endpoint(text, tls, 8500, 8501);
        return to ? (to->path.empty() ? (to->tls ? "s " : "") + bracketed(to->host) + ' ' + std::to_string(to->port) : to->path) : "bad";
    };
    CHECK(reads("localhost") == "localhost 8500");
    CHECK(reads("10.0.0.1:1") == "10.0.0.1 1");
    CHECK(reads("HTTP://consul.example:65535/") == "consul.example 65535");
    CHECK(reads("https://consul") == "s consul 8501");
    CHECK(reads("consul:8500", true) == "s consul 8500");
    CHECK(reads("http://consul", true) == "s consul 8501");
    CHECK(reads("[::1]:8500") == "[::1] 8500");
    CHECK(reads("https://[fe80::1%eth0]") == "s [fe80::1%eth0] 8501");
    CHECK(reads("unix:///run/consul.sock") == "/run/consul.sock");
    for (const char* bad : {"", ":8500", "a:0", "a:65536", "a:99999999999", "a:x", "a:", "::1", "[::1", "[a]:1", "a/b", "http://u:p@a", "a b", "unix://x", "http://", "https://http://a", "http://https://a", "[::1]8500"})
        CHECK_MESSAGE(reads(bad) == "bad", bad);
}

TEST_CASE("a request is exactly what the agent expects, and asks for nothing compressed") {
    talk t(http(200, "hello"));
    t.client.token = "secret";
    const auto r = t.ask("{}");
    REQUIRE(r);
    CHECK(r->status == 200);
    CHECK(r->body == "hello");
    CHECK(t.there.requests.at(0) == "PUT /v1/x?y=%20 HTTP/1.1\r\nHost: " + t.there.at() + "\r\nUser-Agent: prometheus_async.hpp/" PROMETHEUS_ASYNC_VERSION_STRING
                                    "\r\nAccept: */*\r\nContent-Type: application/json\r\nContent-Length: 2\r\nX-Token: secret\r\n\r\n{}");
    CHECK(t.client.client.here().text() == "127.0.0.1");
    CHECK(t.client.client.here().loopback());
}

TEST_CASE("a refused connection is an error with its errno") {
    talk t(http(200));
    t.there.down();
    const auto r = t.ask();
    REQUIRE(code(r) == prom::errc::system);
    CHECK(r.why().sys() == ECONNREFUSED);
}

TEST_CASE("a redirect is an answer like any other") {
    talk t({"HTTP/1.1 301 Moved\r\nLocation: /v1/elsewhere\r\nContent-Length: 0\r\n\r\n", answer::close});
    CHECK(t.ask()->status == 301);
    CHECK(t.there.connections == 1);
}

TEST_CASE("garbage, a reset, a cut answer and silence are errors, each of its kind") {
    CHECK(code(talk({"SSH-2.0-OpenSSH_9.6\r\n", answer::stall}).ask()) == prom::errc::protocol);
    CHECK(code(talk({"", answer::reset}).ask()) == prom::errc::system);
    CHECK(code(talk({"", answer::close}).ask()) == prom::errc::protocol);
    CHECK(code(talk({"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok", answer::close}).ask()) == prom::errc::protocol);
    CHECK(code(talk(http(200, std::string(2 << 20, 'x'))).ask()) == prom::errc::protocol);
    CHECK(talk(http(200, std::string(1 << 20, 'x'))).ask()->body.size() == 1 << 20);
}

TEST_CASE("the first octet has its deadline") {
    talk t({"", answer::stall});
    outcome<prom::result<http_response>> out;
    t.client.loop.spawn(keep(t.client.ask(), out));
    until(t.client.loop, [&] { return t.there.requests.size() == 1; });
    now += 9.5;
    t.client.loop.poll(0);
    CHECK(!out);
    now += 1;
    until(t.client.loop, [&] { return static_cast<bool>(out); });
    CHECK(code(*out) == prom::errc::timeout);
}

TEST_CASE("the whole exchange has its deadline, however the answer trickles") {
    talk t({"HTTP/1.1 200 OK\r\nContent-Le", answer::stall});
    outcome<prom::result<http_response>> out;
    t.client.loop.spawn(keep(t.client.ask(), out));
    until(t.client.loop, [&] { return t.there.requests.size() == 1; });
    for (int i = 0; i != 50; ++i) t.client.loop.poll(0.001);  // the answer's beginning has arrived
    now += 14;
    t.client.loop.poll(0);
    CHECK(!out);
    now += 1.5;
    until(t.client.loop, [&] { return static_cast<bool>(out); });
    CHECK(code(*out) == prom::errc::timeout);
}

TEST_CASE("an answer that never ends neither stops the loop nor outlasts its deadline") {
    std::string endless = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (int i = 0; i != 400000; ++i) endless += "1\r\nx\r\n";  // within the limit of a body, and 2 MB on the wire
    talk t({endless, answer::stall});
    outcome<prom::result<http_response>> out;
    t.client.loop.spawn(keep(t.client.ask(), out));
    until(t.client.loop, [&] { return t.there.requests.size() == 1; });
    int turns = 0;
    for (; !out && turns != 100000; ++turns) {
        now += 0.5;  // the loop turns, or the test would wait here
        t.client.loop.poll(0.001);
    }
    CHECK(out);
    CHECK(turns > 10);
    CHECK(code(*out) == prom::errc::timeout);

    std::string chatty = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (int i = 0; i != 100; ++i) chatty += "1;" + std::string(900, 'e') + "\r\nx\r\n";
    CHECK(code(talk({chatty, answer::stall}).ask()) == prom::errc::protocol);
}

namespace {
/// Listens on a free port, which `a` then asks.
void listen_for(asking& a, int fd) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
    ::getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size);
    ::listen(fd, 1);
    a.to.port = ntohs(at.sin_port);
}
/// One connection, answered as soon as something has come.
prom::task<void> answers_at_once(prom::event_loop& loop, int fd, std::string says, std::string* heard) {
    (void)co_await loop.readable(fd);
    const int c = ::accept4(fd, nullptr, nullptr, SOCK_NONBLOCK);
    (void)co_await loop.readable(c);
    (void)::send(c, says.data(), says.size(), MSG_NOSIGNAL);
    ::shutdown(c, SHUT_WR);
    static char buffer[65536];
    for (ssize_t n = 1; n != 0;) {
        (void)co_await loop.readable(c);
        if ((n = ::recv(c, buffer, sizeof buffer, 0)) > 0) heard->append(buffer, static_cast<std::size_t>(n));
        if (n < 0 && errno != EAGAIN) break;
    }
    ::close(c);
}
/// A body in chunks: each is asked for by its number, from 1, and is the last one when the answer is false.
struct scripted_body {
    std::function<bool(int)> more;
    int chunks = 0;
    static prom::pulled next(void* self, std::span<char> into) noexcept {
        auto& b = *static_cast<scripted_body*>(self);
        std::memset(into.data(), 'b', into.size());
        return {into.size(), b.more(++b.chunks) ? prom::pull::more : prom::pull::done};
    }
    http_body body{&next, this};
    http_request request{.method = "PUT", .target = "/", .secret_name = {}, .body = "begin", .rest = &body};
};
}  // namespace

TEST_CASE("an answer to a request that was given up is not taken for one to a body that is still being sent") {
    asking a("127.0.0.1");
    bool stalls = true;
    peer there(a.loop, [&](const std::string& request) {
        if (request.compare(0, 3, "GET") != 0) return kept(http(200, "second"));
        return stalls ? answer{"", answer::stall} : kept(http(200, "first"));
    });
    a.to.port = there.port;
    outcome<prom::result<http_response>> given_up;
    a.loop.spawn(keep(a.ask(), given_up));
    until(a.loop, [&] { return there.requests.size() == 1; });
    now += 20;
    until(a.loop, [&] { return static_cast<bool>(given_up); });
    REQUIRE(code(*given_up) == prom::errc::timeout);
    CHECK(a.client.owes());

    scripted_body long_one{[&](int chunk) {
        if (chunk == 3) stalls = false, there.go_on();
        return chunk != 20;
    }};
    a.client.renew(a.scope, 100);
    const auto r = finish(a.loop, a.client.exchange(long_one.request));
    REQUIRE(r);
    CHECK(r->body == "second");
    CHECK(long_one.chunks == 20);
    CHECK(peer::body_of(there.requests.at(1)).size() == 5 + 20 * 16384);
    CHECK_FALSE(a.client.owes());
    CHECK(a.client.reusable());
}

TEST_CASE("an answer that begins before the body has ended ends it, but for what comes before an answer") {
    for (const bool interim : {false, true}) {
        asking a("127.0.0.1");
        bool begun = false;
        peer there(a.loop, [&](const std::string&) {
            if (std::exchange(begun, true)) return answer{interim ? http(200, "hello").octets : "llo", answer::stall};
            return answer{interim ? "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 199 X\r\n\r\n" : "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", answer::stall};
        });
        there.hasty = true;
        a.to.port = there.port;
        scripted_body endless{[&](int chunk) { return chunk != (interim ? 40 : 1000); }};
        REQUIRE(finish(a.loop, a.client.connect(endless.request)));
        outcome<prom::result<http_response>> out;
        a.loop.spawn(keep(a.client.exchange(endless.request), out));
        until(a.loop, [&] { return begun; });
        for (int i = 0; i != 100; ++i) a.loop.poll(0);
        CHECK(endless.chunks < 100);
        CHECK(!out);
        there.go_on();
        until(a.loop, [&] { return static_cast<bool>(out); });
        REQUIRE(*out);
        CHECK((*out)->body == "hello");
        CHECK((endless.chunks == 40) == interim);
        CHECK(a.client.reusable() == interim);
    }
}

TEST_CASE("a body of a known length is sent to its end, also when the answer comes before") {
    asking a("127.0.0.1");
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    const int little = 4096;  // what the peer has not read waits with us
    ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
    listen_for(a, fd);
    std::string heard;
    a.loop.spawn(answers_at_once(a.loop, fd, http(200, "hello").octets, &heard));
    const std::string body(6 << 20, 'b');
    const auto r = finish(a.loop, a.ask(body));
    REQUIRE(r);
    CHECK(r->body == "hello");
    until(a.loop, [&] { return heard.size() > body.size(); });  // what is on its way
    ::close(fd);
}

TEST_CASE("connecting has its deadline") {
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
    socklen_t size = sizeof at;
    ::getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size);
    ::listen(fd, 0);
    std::vector<int> crowd;  // fills the queue of a listener that never accepts: Linux then drops each SYN
    for (int i = 0; i != 4; ++i) {
        crowd.push_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
        (void)::connect(crowd.back(), reinterpret_cast<sockaddr*>(&at), sizeof at);
    }
    asking a("127.0.0.1:" + std::to_string(ntohs(at.sin_port)));
    outcome<prom::result<http_response>> out;
    a.loop.spawn(keep(a.ask(), out));
    for (const double later : {0.0, 2.75}) {
        now += later;
        for (int i = 0; i != 20; ++i) a.loop.poll(0.001);
        CHECK(!out);
    }
    now += 0.5;
    until(a.loop, [&] { return static_cast<bool>(out); });
    CHECK(code(*out) == prom::errc::timeout);
    for (int c : crowd) ::close(c);
    ::close(fd);
}

TEST_CASE("every address of a name is tried") {
    asking a("localhost");
    const int fd = ::socket(AF_INET6, SOCK_STREAM, 0);
    sockaddr_in6 at{};
    at.sin6_family = AF_INET6;
    at.sin6_addr = in6addr_loopback;
    const int on = 1;
    if (fd >= 0) ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (fd < 0 || ::bind(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0) return;  // a machine without IPv6
    socklen_t size = sizeof at;
    ::getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size);
    ::listen(fd, 1);
    a.to.port = ntohs(at.sin6_port);
    const http_request request{"GET", "/", {}};
    CHECK(finish(a.loop, a.client.connect(request)));
    CHECK(a.client.here().text() == "::1");
    CHECK(a.client.here().loopback());
    ::close(fd);
}

TEST_CASE("an unknown name never blocks the loop") {
    asking a("no-such-host.invalid");
    outcome<prom::result<http_response>> out;
    a.loop.spawn(keep(a.ask(), out));
    now += 16;  // whatever the resolver does, the deadline holds
    until(a.loop, [&] { return static_cast<bool>(out); });
    CHECK(!*out);
}

TEST_CASE("a loop may end while a name is looked up") {
    outcome<prom::result<http_response>> out;
    {
        asking a("no-such-host.invalid");
        a.loop.spawn(keep(a.ask(), out));
    }
    CHECK((!out || PROMETHEUS_ASYNC_NO_THREADS));
}

TEST_CASE("a child finds every connection that it has to close, also one that waits for nothing") {
    for (const bool answered : {true, false}) {
        talk t(answered ? kept(http(200)) : answer{"", answer::stall});
        outcome<prom::result<http_response>> out;
        t.client.loop.spawn(keep(t.client.ask(), out));
        until(t.client.loop, [&] { return answered ? static_cast<bool>(out) : t.there.requests.size() == 1; });
        const pid_t child = ::fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            loop_state::of(t.client.loop).close_copies();
            int left = 0;
            for (int fd = 0; fd != 1024; ++fd)  // but those of a resolver that an earlier test left at work
                for (const auto side : {&::getsockname, &::getpeername}) {
                    sockaddr_in at{};
                    socklen_t size = sizeof at;
                    left += side(fd, reinterpret_cast<sockaddr*>(&at), &size) == 0 && at.sin_family == AF_INET && ntohs(at.sin_port) == t.there.port;
                }
            ::_exit(left);
        }
        int status = 0;
        REQUIRE(::waitpid(child, &status, 0) == child);
        CHECK(status == 0);
        t.client.scope.cancel();  // no wait outlives its client
    }
}

TEST_CASE("a canceled scope ends the wait at once, and every later one") {
    talk t({"", answer::stall});
    outcome<prom::result<http_response>> out;
    t.client.loop.spawn(keep(t.client.ask(), out));
    until(t.client.loop, [&] { return t.there.requests.size() == 1; });
    t.client.scope.cancel();
    REQUIRE(out);
    CHECK(code(*out) == prom::errc::canceled);
    CHECK(code(t.ask()) == prom::errc::canceled);
}

TEST_CASE("an agent behind a unix socket is beside us") {
    const std::string path = "/tmp/prometheus_async_test_" + std::to_string(::getpid()) + ".sock";
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un at{};
    at.sun_family = AF_UNIX;
    std::memcpy(at.sun_path, path.c_str(), path.size());
    REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
    ::listen(fd, 1);
    asking a("unix://" + path);
    const http_request request{"GET", "/", {}};
    CHECK(finish(a.loop, a.client.connect(request)));
    CHECK(a.client.here().loopback());
    ::close(fd);
    ::unlink(path.c_str());
    asking gone("unix://" + path);
    CHECK(finish(gone.loop, gone.client.connect(request)).why().sys() == ENOENT);
}

namespace {
/// A TLS of the stage: greets with "hi", takes "ho" for a greeting, and flips a bit of each octet.
struct toy_session final : prom::tls_session {
    std::string in, out = "hi";
    bool greeted = false, bad = false;
    prom::tls_io feed(std::span<const char> octets) noexcept override {
        const std::size_t n = octets.size() < 3 ? octets.size() : 3;
        in.append(octets.data(), n);
        return {prom::tls_status::ok, n, 0};
    }
    prom::tls_io drain(std::span<char> to) noexcept override {
        const std::size_t n = out.size() < to.size() ? out.size() : to.size();
        std::memcpy(to.data(), out.data(), n);
        out.erase(0, n);
        return {prom::tls_status::ok, 0, n};
    }
    prom::tls_status handshake() noexcept override {
        if (in.size() < 2) return prom::tls_status::need_input;
        bad = in.compare(0, 2, "ho") != 0;
        in.erase(0, 2);
        return bad ? prom::tls_status::failed : prom::tls_status::ok;
    }
    prom::tls_io read(std::span<char> plain) noexcept override {
        if (in.empty()) return {prom::tls_status::need_input, 0, 0};
        if (in[0] == '\0') return {prom::tls_status::closed, 0, 0};
        plain[0] = static_cast<char>(in[0] ^ 1);
        in.erase(0, 1);
        return {prom::tls_status::ok, 0, 1};
    }
    prom::tls_io write(std::span<const char> plain) noexcept override {
        if (out.size() > 8) return {prom::tls_status::need_output, 0, 0};
        out += static_cast<char>(plain[0] ^ 1);
        return {prom::tls_status::ok, 1, 0};
    }
    prom::tls_status shutdown() noexcept override { return prom::tls_status::ok; }
    std::string last_error() const override { return bad ? "wrong host" : ""; }
};
std::string asked_for;
const prom::tls_config toy{[](void*, std::string_view name) noexcept {
                               asked_for = name;
                               return prom::owned<prom::tls_session>(new toy_session);
                           }, nullptr};
std::string flipped(std::string s) {
    for (char& c : s) c = static_cast<char>(c ^ 1);
    return s;
}

prom::result<http_response> over_toy_tls(const std::string& says, std::string* heard) {
    asking a("https://127.0.0.1", toy);
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    listen_for(a, fd);
    a.loop.spawn(answers_at_once(a.loop, fd, says, heard));
    auto r = finish(a.loop, a.ask());
    ::close(fd);
    return r;
}
}  // namespace

TEST_CASE("an https agent is spoken to through the hook, and its certificate asked for by its host") {
    std::string heard;
    const auto r = over_toy_tls("ho" + flipped("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), &heard);
    REQUIRE(r);
    CHECK(r->body == "hello");
    CHECK(asked_for == "127.0.0.1");
}

TEST_CASE("a failed handshake says why, and plain HTTP is never tried instead") {
    std::string heard;
    const auto r = over_toy_tls("no", &heard);
    REQUIRE(code(r) == prom::errc::tls);
    CHECK(std::string(r.why().describe()) == "TLS: wrong host");
    CHECK(heard.find("GET") == std::string::npos);
    asking a("https://127.0.0.1");
    CHECK(code(finish(a.loop, a.ask())) == prom::errc::invalid_option);
}

TEST_CASE("a TLS connection that ends without close_notify is an error, also where the body has no length") {
    std::string heard;
    CHECK(code(over_toy_tls("ho" + flipped("HTTP/1.1 200 OK\r\n\r\nhel"), &heard)) == prom::errc::tls);
    CHECK(over_toy_tls("ho" + flipped("HTTP/1.1 200 OK\r\n\r\nhello") + std::string(1, '\0'), &heard)->body == "hello");
}

TEST_CASE("a handshake has a deadline of its own, whether the peer is silent or says little") {
    for (const double given : {0.0, 9.0})  // 0: the default, 5
        for (const char* first : {"", "h"}) {
            CAPTURE(given);
            http_deadlines limits{.connect = 2};
            if (given != 0) limits.handshake = given;
            asking a("https://127.0.0.1", toy, limits);
            const peer there(a.loop, [first](const std::string&) { return answer{first, answer::stall}; });
            a.to.port = there.port;
            outcome<prom::result<http_response>> out;
            a.loop.spawn(keep(a.ask(), out));
            for (int i = 0; i != 50; ++i) a.loop.poll(0.001);
            now += given != 0 ? 8.75 : 4.75;  // later than connecting may take
            for (int i = 0; i != 50; ++i) a.loop.poll(0.001);
            CHECK(!out);
            now += 0.5;
            until(a.loop, [&] { return static_cast<bool>(out); });
            CHECK(code(*out) == prom::errc::timeout);
        }
}
