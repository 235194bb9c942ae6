// libs: -lz
// max_len: 512
// The deflater: any octets, given and taken in any pieces, come back through zlib. The input is a script, so that a
// short one makes pages longer than the window: a line to repeat, octets as they are, a number that counts. One input in
// sixteen makes such a page; the others end before they do what those have done.
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include "tests/support/inflate.hpp"

#include <cstdlib>
#include <memory>

using prometheus_async::detail::gzip_stream;

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    static const auto g = std::make_unique<gzip_stream>();
    static std::string out(65536, '\0');
    static test_inflate::stream inflater;
    if (size < 4) return 0;
    const std::size_t window = data[0] < 128 ? std::size_t{data[0]} + 1 : std::size_t{1} << (data[0] % 16);
    const std::size_t piece = data[1] < 128 ? std::size_t{data[1]} + 1 : 65536;
    const std::size_t longest = data[1] >= 240 ? 150000 : 4000;
    static std::string text, made, back;
    text.clear();
    made.clear();
    const std::string_view rest(reinterpret_cast<const char*>(data + 2), size - 2);
    for (std::size_t at = 0; at < rest.size();) {
        const auto order = static_cast<unsigned char>(rest[at++]);
        const std::string_view part = rest.substr(at, order % 64);
        at += part.size();
        const unsigned times = order < 64 ? 1 : order < 128 ? 3 : order < 192 ? 40 : 400;
        for (unsigned i = 0; i < times && text.size() < longest; ++i) {
            text += part;
            if (order & 1) text += std::to_string(i * 7919u);
            if (order & 2) text += '\n';
        }
    }
    g->start();
    for (std::string_view left = text;;) {
        const gzip_stream::piece p = g->next({out.data(), window});
        if (p.bytes > window) std::abort();
        made.append(out, 0, p.bytes);
        if (p.what == gzip_stream::made::done) break;
        if (p.what == gzip_stream::made::full) continue;
        if (left.empty()) g->finish();
        if (g->room().size() < gzip_stream::least_room) std::abort();
        const std::size_t n = left.copy(g->room().data(), std::min(piece, g->room().size()));
        g->add(n);
        left.remove_prefix(n);
    }
    if (!inflater.gunzip(made, back) || back != text) std::abort();
    return 0;
}
