// 11_own_discovery: publishes the address of the server by your own code; here, as a line on standard output.
//
//     c++ -std=c++20 examples/11_own_discovery.cpp -o discovery && ./discovery 9464
//
// prints, the last line after Ctrl-C or SIGTERM:
//
//     up   http://127.0.0.1:9464/
//     down http://127.0.0.1:9464/

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "../prometheus_async.hpp"
#include "port.hpp"

#include <csignal>
#include <cstdio>
#include <cstdlib>

namespace prom = prometheus_async;

class lobby final : public prom::service_discovery {
public:
    prom::task<prom::result<prom::registration>> register_server(
        prom::event_loop& loop, const prom::metrics_http_server& server) override {
        co_await loop.sleep(0.01);  // a real one sends a request here, and never blocks
        std::string url = server.url();
        std::printf("up   %s\n", url.c_str());
        std::fflush(stdout);
        prom::registration kept;
        kept.deregister = [url] { return leave(url); };  // owns what it needs: the lobby may be gone
        co_return std::move(kept);
    }

private:
    static prom::task<prom::result<void>> leave(std::string url) {
        std::printf("down %s\n", url.c_str());
        std::fflush(stdout);
        co_return {};
    }
};

prom::event_loop* running;

prom::task<int> run(prom::event_loop& loop, std::uint16_t port) {
    lobby where;
    auto server = co_await prom::start_http_server(loop, {.port = port, .service_discovery = &where});
    if (!server) {
        std::fprintf(stderr, "%s\n", server.why().describe());
        co_return 1;
    }
    for (;;) co_await loop.sleep(3600);
}

int main(int argc, char** argv) {
    prom::event_loop loop;
    running = &loop;
    for (int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { running->stop(); });
    return loop.run(run(loop, port_of(argc, argv, 0)));
}
