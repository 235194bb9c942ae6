// expect: task
#include "prometheus_async.hpp"

namespace prom = prometheus_async;
bool start(prom::event_loop& loop) { return !prom::start_http_server(loop, {.port = 9464}); }
