// A gzip member through zlib, strictly: the whole of it, nothing after it.
#pragma once
#include <zlib.h>

#include <string>
#include <string_view>

namespace test_inflate {

/// False when it is not one whole, right member.
inline bool gunzip(std::string_view from, std::string& to) {
    z_stream z{};
    if (inflateInit2(&z, 15 + 16) != Z_OK) return false;
    std::string in(from);
    z.next_in = reinterpret_cast<Bytef*>(in.data());
    z.avail_in = static_cast<uInt>(in.size());
    to.clear();
    char window[16384];
    int status = Z_OK;
    while (status == Z_OK) {
        z.next_out = reinterpret_cast<Bytef*>(window);
        z.avail_out = sizeof window;
        status = inflate(&z, Z_NO_FLUSH);
        to.append(window, sizeof window - z.avail_out);
    }
    const bool whole = status == Z_STREAM_END && z.avail_in == 0;
    inflateEnd(&z);
    return whole;
}

/// What zlib makes of it at its fastest.
inline std::size_t zlib_1(std::string_view text) {
    z_stream z{};
    if (deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) return 0;
    std::string in(text), out(text.size() + text.size() / 8 + 1000, '\0');
    z.next_in = reinterpret_cast<Bytef*>(in.data());
    z.avail_in = static_cast<uInt>(in.size());
    z.next_out = reinterpret_cast<Bytef*>(out.data());
    z.avail_out = static_cast<uInt>(out.size());
    deflate(&z, Z_FINISH);
    const std::size_t made = z.total_out;
    deflateEnd(&z);
    return made;
}

}  // namespace test_inflate
