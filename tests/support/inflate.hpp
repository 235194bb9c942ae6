// A gzip member through zlib, strictly: the whole of it, nothing after it.
#pragma once
#include <zlib.h>

#include <string>
#include <string_view>

namespace test_inflate {

/// zlib's state, which can read one member after another.
class stream {
public:
    stream() : good_(inflateInit2(&z_, 15 + 16) == Z_OK) {}
    stream(const stream&) = delete;
    ~stream() { inflateEnd(&z_); }

    /// False when it is not one whole, right member.
    bool gunzip(std::string_view from, std::string& to) {
        if (!good_ || inflateReset(&z_) != Z_OK) return false;
        in_ = from;
        z_.next_in = reinterpret_cast<Bytef*>(in_.data());
        z_.avail_in = static_cast<uInt>(in_.size());
        to.clear();
        int status = Z_OK;
        while (status == Z_OK) {
            z_.next_out = reinterpret_cast<Bytef*>(window_);
            z_.avail_out = sizeof window_;
            status = inflate(&z_, Z_NO_FLUSH);
            to.append(window_, sizeof window_ - z_.avail_out);
        }
        return status == Z_STREAM_END && z_.avail_in == 0;
    }

private:
    z_stream z_{};
    std::string in_;
    char window_[16384];
    const bool good_;
};

inline bool gunzip(std::string_view from, std::string& to) { return stream().gunzip(from, to); }

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
