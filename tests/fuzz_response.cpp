// The client's response parser: whole and octet by octet it comes to the same end, within its limits.
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

using prometheus_async::detail::response_parser;

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    const std::string octets(reinterpret_cast<const char*>(data), size);
    constexpr std::size_t limit = 64;
    response_parser whole(limit), single(limit);
    auto a = whole.feed(octets), b = response_parser::status::more;
    for (std::size_t i = 0; i != size; ++i) b = single.feed(std::string_view(octets).substr(i, 1));
    if (size == 0) b = a;
    if (a != b) std::abort();
    a = whole.finish();
    b = single.finish();
    if (a != b || a == response_parser::status::more) std::abort();
    if (whole.body.size() > limit || single.body.size() > limit) std::abort();
    if (a == response_parser::status::done && (whole.body != single.body || whole.code() != single.code() || whole.code() < 200 ||
                                               whole.reusable() != single.reusable()))
        std::abort();
    return 0;
}
