// Reads a fuzzer's input as numbers and texts; zeros after its end.
#pragma once
#include <cstddef>
#include <string>

struct fuzz_input {
    const unsigned char* at;
    const unsigned char* end;

    unsigned byte() { return at != end ? *at++ : 0; }
    /// One of `known`, or fewer than `most` octets of the input.
    template <std::size_t N>
    std::string text(const char* const (&known)[N], unsigned most) {
        const unsigned n = byte();
        if (n < 128) return known[n % N];
        std::string made;
        for (unsigned i = n % most; i != 0; --i) made += static_cast<char>(byte());
        return made;
    }
};
