// What the README's table "Everything at a glance" assumes. lint.py compiles each of its rows as a coroutine
// after this.
#include "prometheus_async.hpp"
#include <chrono>
#include <unistd.h>

namespace prom = prometheus_async;
using namespace std::chrono_literals;

extern prom::histogram took;
extern prom::counter errors;
extern prom::gauge running;
extern prom::family<prom::counter, "method"> calls;
extern prom::registry registry, one, two;
extern prom::event_loop loop;
extern prom::threaded_metrics_http_server threaded;
extern prom::consul_agent consul;
extern std::string name, id, accept;
extern int workers;
prom::task<int> handle(int);
struct tls_adapter { prom::tls_config hook(); };
extern tls_adapter tls;
struct web_adapter { prom::tls_config tls(); prom::authorizer authorizer(); };
extern web_adapter web;
prom::result<void> ready(void* context);
inline auto handler = [](int) {};
template <class Handler>
void start(Handler&&) {}                      // an operation that ends in a callback
void watch(int descriptor, prom::callback<void()>);  // your loop's: calls when it is readable
void take(const prom::server_options&);
