// The stream over a TLS session that takes and gives any amounts and fails anywhere, over a socket that does so too: no
// call goes on for ever, octets arrive whole and in order, and what has failed stays so.
#include "support/system.hpp"

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include <algorithm>

namespace {

namespace prom = prometheus_async;
using prom::detail::stream;
using prom::detail::stream_status;

void require(bool good) { if (!good) std::abort(); }

struct input {
    const unsigned char* at;
    const unsigned char* end;
    unsigned octet() { return at != end ? *at++ : 0; }
} in;

/// Octets pass as they are, behind two octets of handshake each way.
struct session final : prom::tls_session {
    std::string from_peer, to_peer;
    std::size_t greeted = 0;
    bool failed = false, said = false;

    bool fails() { return failed = failed || in.octet() == 255; }
    static std::size_t some(std::size_t most) { return std::min<std::size_t>(most, in.octet() % 64); }
    prom::tls_io feed(std::span<const char> octets) noexcept override {
        if (fails()) return {};
        const std::size_t n = some(octets.size());
        from_peer.append(octets.data(), n);
        return {prom::tls_status::ok, n};
    }
    prom::tls_io drain(std::span<char> to) noexcept override {
        const std::size_t n = std::min(to.size(), to_peer.size());
        std::copy_n(to_peer.data(), n, to.data());
        to_peer.erase(0, n);
        return {prom::tls_status::ok, 0, n};
    }
    prom::tls_status handshake() noexcept override {
        if (fails()) return prom::tls_status::failed;
        if (!std::exchange(said, true)) to_peer += "\x16h";
        if (in.octet() % 8 == 1) return prom::tls_status::need_output;
        for (; greeted != 2 && !from_peer.empty(); ++greeted) from_peer.erase(0, 1);
        return greeted == 2 ? prom::tls_status::ok : prom::tls_status::need_input;
    }
    prom::tls_io read(std::span<char> to) noexcept override {
        if (fails()) return {};
        const std::size_t n = std::min(1 + some(to.size() - 1), from_peer.size());
        if (in.octet() % 16 == 1) return {prom::tls_status::need_output};  // with nothing to drain, also for ever
        std::copy_n(from_peer.data(), n, to.data());
        from_peer.erase(0, n);
        return {n ? prom::tls_status::ok : prom::tls_status::need_input, 0, n};
    }
    prom::tls_io write(std::span<const char> octets) noexcept override {
        if (fails()) return {};
        const std::size_t n = some(octets.size());  // none, also for ever
        to_peer.append(octets.data(), n);
        return {in.octet() & 1 ? prom::tls_status::ok : prom::tls_status::need_output, n};
    }
    prom::tls_status shutdown() noexcept override { return prom::tls_status::closed; }
};
prom::owned<prom::tls_session> open(void*, std::string_view) noexcept {
    return prom::owned<prom::tls_session>(in.octet() % 32 == 31 ? nullptr : new session);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    in = {data, data + size};
    test_system::peers.clear();
    test_system::peer& peer = test_system::peers[test_system::memory];
    stream s(test_system::memory);
    const prom::tls_config tls{open};
    const bool server = in.octet() & 1;
    if (server) s.expect_tls(tls);
    else if (!s.start_tls(tls, "host")) return 0;
    peer.to_server = "\x16h";
    std::string sent, received, told, scratch(512, '\0');
    bool failed = false, secured = false;
    while (in.at != in.end) {
        char into[128];
        const unsigned what = in.octet();
        switch (what % 8) {
        case 0: case 1: case 2: {
            if (!secured) {
                const stream_status how = s.handshake(scratch);
                require(!failed || how == stream_status::failed);
                failed |= how == stream_status::failed;
                secured = how == stream_status::ok;
                break;
            }
            const auto got = s.receive(std::span(into).first(1 + what / 8), scratch);
            require(!failed || (got.status == stream_status::failed && got.bytes == 0));
            failed |= got.status == stream_status::failed;
            received.append(into, got.bytes);
            break;
        }
        case 3: {
            if (!secured) break;
            for (unsigned i = 0; i != what / 8; ++i) into[i] = static_cast<char>('a' + (sent.size() + i) % 26);
            const auto put = s.send({into, what / 8}, scratch);
            require(put.bytes <= what / 8 && (!failed || put.bytes == 0));
            failed |= put.status == stream_status::failed;
            sent.append(into, put.bytes);
            if (put.status == stream_status::ok) require(put.bytes == what / 8 && !s.pending() && peer.from_server == "\x16h" + sent);
            break;
        }
        case 4:
            for (unsigned i = 0; i != what / 8; ++i) told += static_cast<char>('A' + told.size() % 26);
            peer.to_server += told.substr(told.size() - what / 8);
            break;
        case 5: peer.room = what & 128 ? ~std::size_t{0} : what / 8; break;
        case 6: peer.piece = 1 + what / 8; break;
        default:
            if (what >= 240) peer.send_error = EPIPE;
            else if (what >= 224) peer.recv_error = ECONNRESET;
            else if (what >= 192) peer.fin = true;
            else failed |= s.flush(scratch) == stream_status::failed;
        }
        require(told.starts_with(received) && (peer.from_server.size() <= 2 || ("\x16h" + sent).starts_with(peer.from_server)));
    }
    static_cast<void>(s.shutdown(scratch));
    static_cast<void>(s.why());
    return 0;
}
