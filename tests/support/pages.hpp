// Pages that tests and benchmarks compress.
#pragma once
#include "../../prometheus_async.hpp"

#include <array>
#include <string>

namespace pages {

using requests = prometheus_async::family<prometheus_async::counter, "method", "path", "status">;

inline std::string of(prometheus_async::registry& r) {
    const std::array<prometheus_async::registry*, 1> one{&r};
    return prometheus_async::expose({.registries = one});
}
inline std::string counters(int n) {
    prometheus_async::registry r;
    const requests f{"http_requests_total", "Requests.", {.registry = &r}};
    for (int i = 0; i < n; ++i) f("GET", "/item/" + std::to_string(i), 200).inc(static_cast<std::uint64_t>(i) * 7919 % 10007);
    return of(r);
}
/// Counters whose labels repeat in a cycle.
inline std::string labels_in_turn(int n) {
    prometheus_async::registry r;
    const requests f{"http_requests_total", "Requests.", {.registry = &r}};
    const char* methods[] = {"GET", "POST", "PUT", "DELETE"};
    const int codes[] = {200, 201, 404, 500, 503};
    for (int i = 0; i < n; ++i)
        f(methods[i % 4], "/api/v1/item/" + std::to_string(i / 20), codes[i / 4 % 5]).inc(static_cast<std::uint64_t>(i) * 7919 % 100003);
    return of(r);
}

}  // namespace pages
