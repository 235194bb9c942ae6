// Octets from a network into the server's connection, over a socket without a kernel: the answers are the same
// however the octets and the socket's room are cut. The first octet of an input chooses the cuts.
#include "support/system.hpp"

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

namespace prom = prometheus_async;
using namespace prom::detail;

namespace {

double no_time() { return 784111777; }

struct service : http_service {
    prom::registry small, large;
    std::string text = std::string(40000, 't');
    service() {
        prom::set_clock({&no_time, &no_time});
        small.make_counter("a_total", "help").inc();
        for (int i = 0; i != 400; ++i) large.make_gauge("g" + std::to_string(i), "about sixty octets of help for each of them").set(i);
        limits.header_bytes = 1024;
        limits.request_line = 256;
        limits.header_fields = 20;
        limits.requests_per_connection = 20;
        routes.push_back({"/", "x", "text/html", {}, true, false});
        routes.push_back({"/t", prom::detail::string(text), "text/plain", {}, true, false});
        routes.push_back({"/m", {}, {}, {&small}, false, false});
        routes.push_back({"/l", {}, {}, {&large}, false, false});
    }
};

std::uint32_t random_state;
std::size_t pick(std::size_t most) {
    random_state = random_state * 1664525u + 1013904223u;
    return 1 + (random_state >> 8) % most;
}

std::string answers(service& s, std::string_view octets, bool cut) {
    const int fd = test_system::next_peer++;
    test_system::peer& p = test_system::peers[fd];
    std::string all;
    {
        http_connection c(s, fd, 1000);
        for (int turns = 0; !c.closed(); ++turns) {
            if (turns > 200000) __builtin_trap();
            if (!octets.empty() && p.to_server.empty()) {
                const std::size_t n = cut ? pick(octets.size() < 9 ? octets.size() : 9 + pick(60)) : octets.size();
                p.to_server = octets.substr(0, n);
                octets.remove_prefix(p.to_server.size());
            } else if (octets.empty()) {
                p.fin = true;
            }
            p.room = cut ? pick(9000) : ~std::size_t{0};
            p.piece = cut ? pick(5000) : ~std::size_t{0};
            c.run(1000);
            if (c.wants() == prom::detail::interest::none && !c.closed()) __builtin_trap();
            all += std::exchange(p.from_server, {});
        }
    }
    if (!p.closed || s.connections != 0 || s.waiting.first || s.writing.first) __builtin_trap();
    test_system::peers.erase(fd);
    return all;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    static service s;
    if (size == 0) return 0;
    random_state = data[0];
    const std::string_view octets(reinterpret_cast<const char*>(data) + 1, size - 1);
    const std::string whole = answers(s, octets, false);
    if (answers(s, octets, true) != whole) __builtin_trap();
    // Each answer is a status that we know, and nothing but answers is sent.
    if (!whole.empty() && whole.compare(0, 9, "HTTP/1.1 ") != 0) __builtin_trap();
    // What is decoded stays inside, and what is no authority is refused without a look beyond it.
    prom::detail::string target(prom::detail::text_of({"/m?", octets}));
    prom::detail::vector<std::string_view> names;
    query_names(target, 8, names);
    for (std::string_view n : names)
        if (n.data() < target.data() || n.data() + n.size() > target.data() + target.size()) __builtin_trap();
    static_cast<void>(valid_authority(octets));
    static_cast<void>(same_path(octets, "/metrics"));
    static_cast<void>(prom::negotiate(octets, octets));
    return 0;
}
