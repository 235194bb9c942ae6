// Numbers as text: room [44].
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include "support/values.hpp"
#include <doctest/doctest.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

namespace prom = prometheus_async;
using prom::detail::number_size;

namespace {

template <class T>
std::string text(char* (*put)(char*, T) noexcept, T x) {
    char buffer[number_size + 8];
    std::fill(std::begin(buffer), std::end(buffer), '#');
    char* const end = put(buffer, x);
    REQUIRE(std::count(buffer + number_size, std::end(buffer), '#') == 8);  // no byte beyond its room
    return std::string(+buffer, end);
}
std::string number(double x) { return text(prom::detail::put_double, x); }
std::string bound(double x) { return text(prom::detail::put_bound, x); }
std::string timestamp(double x) { return text(prom::detail::put_timestamp, x); }
std::string milliseconds(double x) { return text(prom::detail::put_milliseconds, x); }
std::string integer(std::uint64_t n) { return text(+[](char* to, std::uint64_t v) noexcept { return prom::detail::put_u64(to, v); }, n); }

// Random numbers that are the same everywhere (splitmix64).
struct generator {
    std::uint64_t state = 1;
    std::uint64_t operator()() {
        std::uint64_t z = state += 0x9e3779b97f4a7c15;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        return z ^ z >> 31;
    }
};

// The standard library's shortest digits, in our rule's clothes.
std::string expected(double x) {
    if (is_nan(x)) return "NaN";
    if (bits(x) << 1 == bits(infinity()) << 1) return bits(x) >> 63 ? "-Inf" : "+Inf";
    char digits[64];
    if (std::fabs(x) < 9007199254740992.0 && (bits(x) << 1 == 0 || bits(std::trunc(x)) == bits(x))) {
        const auto whole = static_cast<std::int64_t>(x);
        return whole == 0 && bits(x) >> 63 ? "-0" : std::to_string(whole);
    }
    auto done = std::to_chars(digits, std::end(digits), x, std::chars_format::scientific);
    std::string scientific(digits, done.ptr);
    const int exponent = std::atoi(scientific.c_str() + scientific.find('e') + 1);
    if (exponent < -4 || exponent >= 6) return scientific;
    done = std::to_chars(digits, std::end(digits), x, std::chars_format::fixed);
    return {digits, done.ptr};
}
// Not CHECK for each of millions: doctest would take most of the time.
bool same(double x) {
#if defined(__FAST_MATH__)
    if (bits(x) << 1 >> 53 == 0) return true;  // linked so, the standard library takes a subnormal for 0
#endif
    const std::string ours = number(x), theirs = expected(x);
    if (ours == theirs) return true;
    MESSAGE("bits ", bits(x), ": ", ours, " is not ", theirs);
    return false;
}
bool same_around(double x) {
    bool good = true;
    for (int i = -3; i <= 3; ++i) {
        const std::uint64_t near = bits(x) + static_cast<std::uint64_t>(i);
        good = good && same(from_bits(near)) && same(-from_bits(near));
    }
    return good;
}

}  // namespace

TEST_CASE("an integer prints its digits, at every length") {
    std::uint64_t edge = 1;
    for (int digits = 1; digits <= 20; ++digits, edge *= 10) {
        for (std::uint64_t n : {edge - 1, edge, edge + 1, edge * 9, edge * 5 + 7}) CHECK(integer(n) == std::to_string(n));
        if (digits == 20) break;
    }
    CHECK(integer(0) == "0");
    CHECK(integer(std::numeric_limits<std::uint64_t>::max()) == "18446744073709551615");
    generator random;
    bool good = true;
    for (int i = 0; i != 100000; ++i) {
        const std::uint64_t n = random() >> (random() % 64);
        good = good && integer(n) == std::to_string(n);
    }
    CHECK(good);
}

TEST_CASE("a whole double below 2^53 prints its digits and -0 its sign") {
    CHECK(number(0) == "0");
    CHECK(number(-0.0) == "-0");
    CHECK(number(1) == "1");
    CHECK(number(-1) == "-1");
    CHECK(number(1000000) == "1000000");
    CHECK(number(1234567) == "1234567");
    CHECK(number(9007199254740991.0) == "9007199254740991");
    CHECK(number(-9007199254740991.0) == "-9007199254740991");
    CHECK(number(9007199254740992.0) == "9.007199254740992e+15");
}

TEST_CASE("every other double prints in Go's g form") {
    CHECK(number(0.5) == "0.5");
    CHECK(number(1234567.5) == "1.2345675e+06");
    CHECK(number(123456.5) == "123456.5");
    CHECK(number(-123456.5) == "-123456.5");
    CHECK(number(1e23) == "1e+23");
    CHECK(number(0.0001) == "0.0001");
    CHECK(number(0.00001) == "1e-05");
    CHECK(number(0.00012345) == "0.00012345");
    CHECK(number(1e100) == "1e+100");
    CHECK(number(-2.5e-100) == "-2.5e-100");
    CHECK(number(3.141592653589793) == "3.141592653589793");
    CHECK(number(0.1 + 0.2) == "0.30000000000000004");
    CHECK(number(5e-324) == "5e-324");
    CHECK(number(1.7976931348623157e308) == "1.7976931348623157e+308");
    CHECK(number(-2.2250738585072014e-308) == "-2.2250738585072014e-308");
    CHECK(number(2.2250738585072011e-308) == "2.225073858507201e-308");
    CHECK(number(infinity()) == "+Inf");
    CHECK(number(minus_infinity()) == "-Inf");
    CHECK(number(not_a_number()) == "NaN");
    CHECK(number(minus_not_a_number()) == "NaN");
}

TEST_CASE("what is known to be hard for printers is shortest and closest") {
    for (double x : {9007199254740993.0, 2.0919495182368195e19, 2.6760179287532483e19, 5e-324, 1.5e-323, 9.5367431640625e-7,
                     2.98023223876953125e-8, 4.708356024711512e18, 9.409340012568248e18, 1.2345678, 4.8726570057e288,
                     8.1090e-205, 5.764607523034235e39, 1.152921504606847e40, 2.305843009213694e40, 2.2250738585072014e-308,
                     6.8006e-26, 1.8531501765868567e21, -3.347727380279489e33, 1.9430376160308388e16, 4.1942e-304, 9.4906e-282})
        CHECK(same_around(x));
}

TEST_CASE("around every power of two and of ten the printer agrees with std::to_chars") {
    bool good = true;
    for (int e = 0; e != 2047; ++e) good = good && same_around(from_bits(static_cast<std::uint64_t>(e) << 52));
    for (int e = -323; e <= 308; ++e)
        for (int digit = 1; digit <= 9; ++digit) {
            const std::string literal = std::to_string(digit) + "e" + std::to_string(e);
            good = good && same_around(std::strtod(literal.c_str(), nullptr));
        }
    CHECK(good);
}

TEST_CASE("random doubles print as std::to_chars has them") {
    generator random;
    bool good = true;
    const int rounds = std::getenv("NUMBERS") ? std::atoi(std::getenv("NUMBERS")) : 60000;
    for (int i = 0; i != rounds; ++i) {
        good = good && same(from_bits(random()));                                             // any bits
        good = good && same(static_cast<double>(random() >> 11) / 1e3);                       // sums in milliseconds
        good = good && same(static_cast<double>(random() % 1000000000) / 1e7);                // few digits
        good = good && same(from_bits(random() >> 12));                                       // subnormal
    }
    CHECK(good);
}

TEST_CASE("a power of ten made of two factors is the exact one, never smaller, at most three units larger") {
    // 10^k = top * 2^(exponent): compare by multiplying out in 32-bit limbs.
    const auto bits_of = [](int k) {  // the top 128 bits of 5^k (k >= 0), rounded down, by limbs
        std::vector<std::uint32_t> limbs{1};
        for (int i = 0; i != k; ++i) {
            std::uint64_t carry = 0;
            for (auto& limb : limbs) {
                carry += std::uint64_t{limb} * 5;
                limb = static_cast<std::uint32_t>(carry);
                carry >>= 32;
            }
            if (carry) limbs.push_back(static_cast<std::uint32_t>(carry));
        }
        limbs.insert(limbs.begin(), 5, 0);
        const int free = __builtin_clz(limbs.back());
        std::uint32_t top[4];
        for (std::size_t i = 0; i != 4; ++i) {
            const std::uint64_t pair = std::uint64_t{limbs[limbs.size() - 1 - i]} << 32 | limbs[limbs.size() - 2 - i];
            top[i] = static_cast<std::uint32_t>(pair << free >> 32);
        }
        return prom::detail::wide{std::uint64_t{top[0]} << 32 | top[1], std::uint64_t{top[2]} << 32 | top[3]};
    };
    bool good = true;
    for (int k = 0; k <= 324; ++k) {
        const auto ours = prom::detail::power_of_ten(k), exact = bits_of(k);
        const std::uint64_t more = ours.low - exact.low;
        good = good && more >= 1 && more <= 3 && ours.high == exact.high + (ours.low < exact.low);
    }
    CHECK(good);
}

TEST_CASE("the portable multiplication is the native one") {
    generator random;
    bool good = true;
    for (int i = 0; i != 100000; ++i) {
        const std::uint64_t a = random() >> (random() % 64), b = random() | random() << 60;
        const auto one = prom::detail::multiply(a, b), other = prom::detail::multiply_portable(a, b);
        good = good && one.high == other.high && one.low == other.low;
    }
    CHECK(good);
    const auto most = prom::detail::multiply_portable(~0ull, ~0ull);
    CHECK(most.high == ~0ull - 1);
    CHECK(most.low == 1);
}

TEST_CASE("a bound is canonical: with a point or an exponent") {
    CHECK(bound(0) == "0.0");
    CHECK(bound(-0.0) == "0.0");
    CHECK(bound(0.001) == "0.001");
    CHECK(bound(1) == "1.0");
    CHECK(bound(-1) == "-1.0");
    CHECK(bound(10) == "10.0");
    CHECK(bound(100000) == "100000.0");
    CHECK(bound(123456) == "123456.0");
    CHECK(bound(999999) == "999999.0");
    CHECK(bound(1000000) == "1e+06");
    CHECK(bound(1234567) == "1.234567e+06");
    CHECK(bound(1e23) == "1e+23");
    CHECK(bound(0.00001) == "1e-05");
    CHECK(bound(0.0001) == "0.0001");
    CHECK(bound(0.075) == "0.075");
    CHECK(bound(infinity()) == "+Inf");
}

TEST_CASE("a timestamp has no exponent, and milliseconds are whole") {
    CHECK(timestamp(1520879607.789) == "1520879607.789");
    CHECK(timestamp(1700000000) == "1700000000");
    CHECK(timestamp(1700000000.000001) == "1700000000.000001");
    CHECK(timestamp(0) == "0");
    CHECK(timestamp(0.5) == "0.5");
    CHECK(timestamp(0.00001) == "0.00001");
    CHECK(timestamp(-1.25) == "-1.25");
    CHECK(timestamp(-0.0000012345678901234567) == "-0.0000012345678901234567");
    CHECK(timestamp(4503599627370495.5) == "4503599627370495.5");
    CHECK(milliseconds(1520879607.789) == "1520879607789");
    CHECK(milliseconds(0.0004) == "0");
    CHECK(milliseconds(-0.0004) == "0");
    CHECK(milliseconds(-1.5) == "-1500");
    CHECK(milliseconds(not_a_number()) == "0");
}
