// Registers a server in a real agent under each id of the command line, with each kind of check, and de-registers it.
// Says of each whether the agent knew it meanwhile; what is left behind is for the script to see.
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include <cstdio>

namespace prom = prometheus_async;

prom::task<int> run(prom::event_loop& loop, int count, char** ids) {
    int failed = 0;
    for (int i = 0; i != count; ++i) {
        for (prom::consul_check check : {prom::consul_check::http, prom::consul_check::ttl, prom::consul_check::none}) {
            prom::consul_options options{.name = "ids"};
            options.service_id = ids[i];
            options.check = check;
            options.on_failure = prom::on_failure::fail;
            prom::consul_agent consul(options);
            prom::server_options serving{.addr = "127.0.0.1"};
            serving.service_discovery = &consul;
            auto server = co_await prom::start_http_server(loop, serving);
            if (!server) {
                std::printf("refused %s: %s\n", ids[i], server.why().describe());
                ++failed;
                continue;
            }
            co_await loop.sleep(0.05);
            const auto closed = co_await server->close();
            if (!closed) {
                std::printf("not gone %s: %s\n", ids[i], closed.why().describe());
                ++failed;
            }
        }
    }
    co_return failed;
}

int main(int argc, char** argv) {
    prom::event_loop loop;
    return loop.run(run(loop, argc - 1, argv + 1));
}
