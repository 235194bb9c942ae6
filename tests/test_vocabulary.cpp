// Rooms [12] errors and [14] vocabulary.
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace prom = prometheus_async;
using prom::errc;
using prom::error;

namespace {
struct counted {
    static inline int alive = 0;
    int value;
    explicit counted(int v) : value(v) { ++alive; }
    counted(counted&& other) noexcept : value(other.value) { ++alive; }
    counted(const counted& other) : value(other.value) { ++alive; }
    counted& operator=(const counted&) = default;
    ~counted() { --alive; }
};
}  // namespace

TEST_CASE("an error says what it was given, whole when it fits") {
    const error e(errc::conflict, "a and b differ");
    CHECK(e.code() == errc::conflict);
    CHECK(e.sys() == 0);
    CHECK(std::string_view(e.describe()) == "a and b differ");
}

TEST_CASE("an error is one line and ends where its text does, whatever name it repeats") {
    CHECK(std::string_view(error(errc::conflict, std::string_view("a\0b\r\nc\x7f\xc3\xa9", 9)).describe()) == "a b  c \xc3\xa9");
}

TEST_CASE("an error of a system call ends with the system's words") {
    const error e = error::from_errno("cannot listen on 0.0.0.0:9464", EADDRINUSE);
    CHECK(e.code() == errc::system);
    CHECK(e.sys() == EADDRINUSE);
    CHECK(std::string_view(e.describe()) == "cannot listen on 0.0.0.0:9464: Address already in use");
}

TEST_CASE("a long message is cut at a code point and still ends") {
    for (std::size_t lead = 0; lead != 4; ++lead) {
        std::string text(lead, 'x');
        while (text.size() < 200) text += "\xf0\x9f\x92\xa9";
        const error e(errc::system, text);
        const std::string_view said = e.describe();
        CHECK(said.size() <= 119);
        CHECK(said.size() >= 116);
        CHECK(text.starts_with(said));
        CHECK((said.size() - lead) % 4 == 0);
    }
}

TEST_CASE("a result holds its value or its error, and destroys what it holds once") {
    {
        prom::result<counted> good(counted(3));
        CHECK(counted::alive == 1);
        CHECK(good);
        CHECK(good->value == 3);
        prom::result<counted> moved(std::move(good));
        CHECK(moved.value().value == 3);
        prom::result<counted> bad(error(errc::limit, "too many"));
        CHECK_FALSE(bad);
        CHECK(bad.why().code() == errc::limit);
        bad = moved;
        CHECK(bad->value == 3);
        bad = error(errc::timeout, "late");
        CHECK_FALSE(bad);
        CHECK(std::move(bad).value_or(counted(7)).value == 7);
    }
    CHECK(counted::alive == 0);
}

TEST_CASE("a result of nothing is true on success") {
    prom::result<void> good;
    CHECK(good);
    good.value();
    const prom::result<void> bad(error(errc::refused, "no"));
    CHECK_FALSE(bad);
    CHECK(std::string_view(bad.why().describe()) == "no");
}

TEST_CASE("a result takes what can only be moved") {
    prom::result<std::unique_ptr<int>> one(std::make_unique<int>(1));
    std::unique_ptr<int> taken = std::move(one).value();
    CHECK(*taken == 1);
}

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("value() of an error raises it, message and all") {
    const prom::result<int> bad(error(errc::refused, "the agent says no"));
    CHECK_THROWS_WITH_AS((void)bad.value(), "the agent says no", prom::failure);
    const prom::result<void> worse(error(errc::timeout, "too late"));
    CHECK_THROWS_WITH_AS(worse.value(), "too late", prom::failure);
}
#endif

TEST_CASE("a list views braces, arrays, vectors and spans") {
    const auto sum = [](prom::list<int> numbers) {
        int total = 0;
        for (int n : numbers) total += n;
        return total;
    };
    const int array[] = {1, 2, 3};
    const std::vector<int> vector{4, 5};
    const std::array<int, 1> one{9};
    CHECK(sum({}) == 0);
    CHECK(sum({1, 2}) == 3);
    CHECK(sum(array) == 6);
    CHECK(sum(vector) == 9);
    CHECK(sum(std::span<const int>(vector)) == 9);
    CHECK(sum(one) == 9);
    static_assert(std::is_trivially_destructible_v<prom::list<std::string_view>>);
}

TEST_CASE("a list of texts takes each kind of text") {
    const auto joined = [](prom::list<std::string_view> texts) {
        std::string all;
        for (std::size_t i = 0; i != texts.size(); ++i) all.append(texts[i]).append(";");
        return all;
    };
    const std::string own = "of a std::string";
    const std::string_view view = own, array[] = {view, "b"};
    const std::vector<std::string_view> vector{"c", view};
    const char* const literal = "d";
    CHECK(joined({}) == "");
    CHECK(joined({{}}) == ";");
    CHECK(joined({{"a"}}) == "a;");
    CHECK(joined({"a", own, view, literal, {"abc", 2}, std::string("e")}) == "a;of a std::string;of a std::string;d;ab;e;");
    CHECK(joined(array) == "of a std::string;b;");
    CHECK(joined(vector) == "c;of a std::string;");
    CHECK(joined({vector.data(), 1}) == "c;");
    prom::list<std::string_view> later;
    later = {};
    CHECK(later.empty());
    later = array;
    CHECK(later.size() == 2);
}

TEST_CASE("seconds come from numbers and from any duration") {
    using namespace std::chrono_literals;
    CHECK(prom::seconds(0.25).count() == 0.25);
    CHECK(prom::seconds(2).count() == 2);
    CHECK(prom::seconds(3L).count() == 3);
    CHECK(prom::seconds(4U).count() == 4);
    CHECK(prom::seconds(1500ms).count() == 1.5);
    CHECK(prom::seconds(2min).count() == 120);
    CHECK(prom::seconds(std::chrono::duration<float>(0.5f)).count() == 0.5);
}

TEST_CASE("a callback moves what it holds and destroys it once, small or large") {
    int calls = 0;
    {
        prom::callback<int(int)> empty;
        CHECK_FALSE(empty);
        const counted small(2);
        prom::callback<int(int)> f([&calls, small](int x) { ++calls; return x * small.value; });
        CHECK(f(21) == 42);
        prom::callback<int(int)> g(std::move(f));
        CHECK_FALSE(f);
        CHECK(g(1) == 2);
        std::array<counted, 16> many{counted(1), counted(1), counted(1), counted(1), counted(1), counted(1), counted(1), counted(1),
                                     counted(1), counted(1), counted(1), counted(1), counted(1), counted(1), counted(1), counted(1)};
        prom::callback<int(int)> large([many](int x) { return x + many[15].value; });
        g = std::move(large);
        CHECK(g(1) == 2);
        g.reset();
        CHECK_FALSE(g);
        prom::callback<int(std::unique_ptr<int>)> takes([p = std::make_unique<int>(5)](std::unique_ptr<int> q) { return *p + *q; });
        CHECK(takes(std::make_unique<int>(2)) == 7);
    }
    CHECK(calls == 2);
    CHECK(counted::alive == 0);
}

TEST_CASE("an owner deletes once and converts to an owner of the base") {
    struct base { virtual ~base() = default; };
    struct derived : base { counted inside{1}; };
    {
        prom::owned<derived> d(new derived);
        prom::owned<base> b(std::move(d));
        CHECK_FALSE(d);
        CHECK(b);
        CHECK(counted::alive == 1);
        b = prom::owned<base>(new derived);
        CHECK(counted::alive == 1);
    }
    CHECK(counted::alive == 0);
}

TEST_CASE("the version is told as text and as a number") {
    CHECK(std::string_view(prom::version()) == PROMETHEUS_ASYNC_VERSION_STRING);
    const int major = PROMETHEUS_ASYNC_VERSION / 10000, minor = PROMETHEUS_ASYNC_VERSION / 100 % 100;
    CHECK(std::string_view(prom::version()).starts_with(std::to_string(major) + "." + std::to_string(minor)));
}

TEST_CASE("the process clock can be replaced and put back") {
    prom::set_clock({[] { return 7.0; }, [] { return 8.0; }});
    CHECK(prom::monotonic_now() == 7);
    CHECK(prom::wall_now() == 8);
    prom::set_clock(prom::system_clock());
    CHECK(prom::wall_now() > 1.7e9);
    const double before = prom::monotonic_now();
    CHECK(prom::monotonic_now() >= before);
}
