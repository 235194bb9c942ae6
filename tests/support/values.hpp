// NaN and infinity as bits that no compiler evaluates: the tests also run under -ffast-math.
#pragma once
#include <bit>
#include <cstdint>

inline double from_bits(std::uint64_t bits) {
    volatile std::uint64_t unknown = bits;
    return std::bit_cast<double>(static_cast<std::uint64_t>(unknown));
}
inline double infinity() { return from_bits(0x7ff0'0000'0000'0000); }
inline double minus_infinity() { return from_bits(0xfff0'0000'0000'0000); }
inline double not_a_number() { return from_bits(0x7ff8'0000'0000'0000); }
inline double minus_not_a_number() { return from_bits(0xfff8'0000'0000'0000); }
inline std::uint64_t bits(double x) { return std::bit_cast<std::uint64_t>(x); }
inline bool is_nan(double x) { return bits(x) << 1 > bits(infinity()) << 1; }
