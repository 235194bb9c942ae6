// The library's own texts, vectors and sorting: room [40].
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace own = prometheus_async::detail;

namespace {
std::uint32_t random_number() {
    static std::uint64_t state = 7;
    state = state * 6364136223846793005U + 1442695040888963407U;
    return static_cast<std::uint32_t>(state >> 33);
}
}  // namespace

TEST_CASE("a text does what std::string does, also with a part of itself") {
    own::string ours;
    std::string theirs;
    for (int step = 0; step != 20000; ++step) {
        const std::size_t size = theirs.size(), at = random_number() % (size + 1), n = random_number() % 20;
        const std::size_t from = random_number() % (size + 1), part = std::min<std::size_t>(random_number() % 20, size - from);
        const char c = static_cast<char>('a' + random_number() % 26);
        switch (random_number() % 11) {
        case 0: ours.push_back(c), theirs.push_back(c); break;
        case 1: ours.append(n, c), theirs.append(n, c); break;
        case 2: ours.append(std::string_view(ours).substr(from, part)), theirs.append(theirs.substr(from, part)); break;
        case 3: ours.insert(at, std::string_view(ours).substr(from, part)), theirs.insert(at, theirs.substr(from, part)); break;
        case 4: ours.replace(at, n, std::string_view(ours).substr(from, part)), theirs.replace(at, n, theirs.substr(from, part)); break;
        case 5: ours.erase(at, n), theirs.erase(at, n); break;
        case 6: ours.resize(at), theirs.resize(at); break;
        case 7: ours.assign(std::string_view(ours).substr(from)), theirs.assign(theirs.substr(from)); break;
        case 8: {
            own::string moved(std::move(ours));
            ours.append("what was moved from can be used");
            ours = std::move(moved);
            break;
        }
        case 9: {
            const own::string copy(ours);
            ours.reserve(n * 10);
            CHECK(copy == ours);
            own::string other("x", 1);
            other.swap(ours);
            ours = other;
            break;
        }
        default:
            if (size > 200) ours.clear(), theirs.clear();
        }
        REQUIRE(std::string_view(ours) == theirs);
        REQUIRE(ours.c_str()[ours.size()] == 0);
        REQUIRE(ours.capacity() >= ours.size());
    }
}

TEST_CASE("a vector does what std::vector does, of what is moved as octets and of what is not") {
    own::vector<std::uint32_t> numbers;
    own::vector<own::string> texts;
    std::vector<std::string> theirs;
    for (int step = 0; step != 20000; ++step) {
        const std::size_t size = theirs.size(), at = random_number() % (size + 1);
        const std::uint32_t n = random_number() % 1000;
        const std::string text = (n % 2 ? "a text that is longer than one that is kept inside " : "") + std::to_string(n);
        switch (random_number() % 6) {
        case 0: numbers.push_back(n), texts.emplace_back(text), theirs.push_back(text); break;
        case 1:
            numbers.insert(numbers.begin() + at, n), texts.insert(texts.begin() + at, own::string(text));
            theirs.insert(theirs.begin() + static_cast<std::ptrdiff_t>(at), text);
            break;
        case 2:
            if (at == size) break;
            numbers.erase(numbers.begin() + at), texts.erase(texts.begin() + at), theirs.erase(theirs.begin() + static_cast<std::ptrdiff_t>(at));
            break;
        case 3:
            if (size > 60) numbers.resize(at), texts.resize(at), theirs.resize(at);
            break;
        case 4: {
            own::vector<own::string> copy;
            copy.resize(at);
            copy = texts;
            CHECK(copy == texts);
            texts = std::move(copy);
            break;
        }
        default:
            if (size != 0) texts.emplace_back(texts.front()), numbers.push_back(numbers[0]), theirs.push_back(theirs.front());
        }
        REQUIRE(texts.size() == theirs.size());
        REQUIRE(numbers.size() == theirs.size());
        for (std::size_t i = 0; i != theirs.size(); ++i) {
            REQUIRE(std::string_view(texts[i]) == theirs[i]);
            REQUIRE(theirs[i].ends_with(std::to_string(numbers[i])));
        }
    }
}

TEST_CASE("what is sorted ascends, and is what it was") {
    for (std::size_t n = 0; n != 200; ++n) {
        own::vector<own::string> ours;
        std::vector<std::string> theirs;
        for (std::size_t i = 0; i != n; ++i) {
            theirs.push_back(std::to_string(random_number() % (n + 1)) + (i % 3 ? "" : " and more than is kept inside"));
            ours.emplace_back(theirs.back());
        }
        own::sort(ours);
        std::sort(theirs.begin(), theirs.end());
        REQUIRE(ours.size() == n);
        for (std::size_t i = 0; i != n; ++i) REQUIRE(std::string_view(ours[i]) == theirs[i]);
    }
    own::vector<std::uint32_t> numbers{3, 1, 2};
    own::sort(numbers, [](std::uint32_t a, std::uint32_t b) { return a > b; });
    CHECK(numbers == own::vector<std::uint32_t>{3, 2, 1});
}

#ifdef __cpp_exceptions
TEST_CASE("a size that no memory has is bad_alloc, and leaves the text as it was") {
    for (const std::size_t n : {static_cast<std::size_t>(-1), static_cast<std::size_t>(-1) / 2, static_cast<std::size_t>(-9)}) {
        own::string text("ten octets");
        CHECK_THROWS_AS(text.append(n, 'x'), std::bad_alloc);
        CHECK_THROWS_AS(text.reserve(n), std::bad_alloc);
        CHECK(text == "ten octets");
        own::vector<own::string> many{text};
        CHECK_THROWS_AS(many.reserve(n), std::bad_alloc);
        CHECK(many.size() == 1);
    }
}
#endif
