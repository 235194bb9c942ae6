// A TLS session that passes all calls on to a real one: derive from it, and override what the test changes or watches.
#ifndef TESTS_SUPPORT_FORWARDING_SESSION_HPP
#define TESTS_SUPPORT_FORWARDING_SESSION_HPP

#include "prometheus_async.hpp"

#include <span>
#include <string>
#include <utility>

struct forwarding_session : prometheus_async::tls_session {
    explicit forwarding_session(prometheus_async::owned<prometheus_async::tls_session> real) : inner(std::move(real)) {}
    prometheus_async::tls_io feed(std::span<const char> in) noexcept override { return inner->feed(in); }
    prometheus_async::tls_io drain(std::span<char> out) noexcept override { return inner->drain(out); }
    prometheus_async::tls_status handshake() noexcept override { return inner->handshake(); }
    prometheus_async::tls_io read(std::span<char> out) noexcept override { return inner->read(out); }
    prometheus_async::tls_io write(std::span<const char> in) noexcept override { return inner->write(in); }
    prometheus_async::tls_status shutdown() noexcept override { return inner->shutdown(); }
    prometheus_async::tls_peer peer() const override { return inner->peer(); }
    std::string last_error() const override { return inner->last_error(); }
    prometheus_async::owned<prometheus_async::tls_session> inner;
};

#endif
