// The verbs on senders: examples/stdexec_senders.hpp over a double of stdexec.
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "support/stdexec.hpp"
#include "examples/stdexec_senders.hpp"
#include <doctest/doctest.h>
#include <memory>
#include <system_error>
#include "support/verbs.hpp"
#if PROMETHEUS_ASYNC_EXCEPTIONS
#include <stdexcept>
#endif

namespace {

// What a receiver was told.
struct told {
    int value = 0, stopped = 0, errors = 0;
    double readings_then = 0;
    int environment = 0;
};
struct receiver {
    using receiver_concept = stdexec::receiver_tag;
    told* to;
    void set_value() && noexcept { noting().value = -1; }
    void set_value(int&& v) && noexcept { noting().value = v; }
    void set_value(std::unique_ptr<int>&& p) && noexcept { noting().value = *p; }
    void set_value(const prom::result<int>& r) && noexcept { noting().value = r ? *r : -2; }
    template <class E>
    void set_error(E&&) && noexcept { ++noting().errors; }
    void set_stopped() && noexcept { ++noting().stopped; }
    int get_env() const noexcept { return 7; }
    told& noting() const noexcept {
        to->readings_then = readings;
        return *to;
    }
};
// Completes when it is told to, and asks its receiver for the environment.
struct later {
    using sender_concept = stdexec::sender_tag;
    void (**go)(void*);
    void** of;
    template <class Self, class... Env>
    static consteval auto get_completion_signatures() -> stdexec::completion_signatures<stdexec::set_value_t(int), stdexec::set_stopped_t()> { return {}; }
    template <class R>
    struct operation {
        R receiver;
        void (**go)(void*);
        void** of;
        void start() noexcept {
            *of = this;
            *go = [](void* self) {
                auto& r = static_cast<operation*>(self)->receiver;
                const int environment = stdexec::get_env(r);
                stdexec::set_value(std::move(r), int{environment});
            };
        }
    };
    template <class R>
    operation<R> connect(R r) && { return {std::move(r), go, of}; }
    int get_env() const noexcept { return 0; }
};
// A sender that can be neither copied nor moved.
struct in_place : decltype(stdexec::just(5)) {
    in_place() : at_once{{5}, 2} {}
    in_place(const in_place&) = delete;
};

template <class Sender>
told run(Sender&& sender) {
    told got;
    auto operation = stdexec::connect(static_cast<Sender&&>(sender), receiver{&got});
    stdexec::start(operation);
    return got;
}

}  // namespace

TEST_CASE("A measured sender is a sender of the same completions, in the same environments") {
    fake_observer o;
    auto s = prom::time(o, stdexec::just(42));
    using S = decltype(s);
    static_assert(std::is_same_v<S::sender_concept, stdexec::sender_tag>);
    static_assert(std::is_same_v<stdexec::completion_signatures_of_t<S>, stdexec::completion_signatures<stdexec::set_value_t(int)>>);
    static_assert(std::is_same_v<stdexec::completion_signatures_of_t<decltype(prom::time(o)(s.get_env().id ? stdexec::just_stopped() : stdexec::just_stopped()))>,
                                 stdexec::completion_signatures<stdexec::set_stopped_t()>>);
    CHECK(stdexec::get_env(s).id == 1);
    CHECK(run(std::move(s)).value == 42);
    CHECK(o.seen.size() == 1);
    CHECK(run(prom::time(o, stdexec::just(std::make_unique<int>(6)))).value == 6);
    CHECK(run(prom::time(o, stdexec::just())).value == -1);
    CHECK(run(prom::time(o, stdexec::just_stopped())).stopped == 1);
    CHECK(o.seen.size() == 4);
}

TEST_CASE("A sender in flight is measured from the call, a decorated function's when it is started") {
    counting_clock clock;
    fake_observer o;
    fake_gauge g;
    void (*go)(void*) = nullptr;
    void* of = nullptr;
    auto all = prom::time(o) | prom::track_inprogress(g);
    const auto measure = [&](auto sender, int before) {
        told got;
        CHECK(g.value == before);
        auto operation = stdexec::connect(std::move(sender), receiver{&got});
        CHECK(g.value == before);
        readings += 10;
        stdexec::start(operation);
        CHECK((g.value == 1 && got.value == 0));
        go(of);
        CHECK(g.value == 0);
        CHECK(got.value == 7);               // the environment of the receiver
        CHECK(got.readings_then == readings);  // the operation was over when its receiver was told
    };
    measure(all(later{&go, &of}), 1);
    CHECK(o.seen == seen{11});
    measure(all([&] { return later{&go, &of}; })(), 0);
    CHECK(o.seen == seen{11, 1});
}

TEST_CASE("A sender that is dropped, or connected and not started, is not observed, and no gauge stays raised") {
    fake_observer o;
    fake_gauge g;
    auto all = prom::time(o) | prom::track_inprogress(g);
    {
        told got;
        auto dropped = all(stdexec::just(1));
        auto unstarted = stdexec::connect(all(stdexec::just(2)), receiver{&got});
        auto uncalled = all([] { return stdexec::just(3); })();
        CHECK(g.value == 2);
    }
    CHECK(o.seen.empty());
    CHECK(g.value == 0);
}

TEST_CASE("Exceptions, other errors and results of senders are counted each by its verb; stopped is none of them") {
    fake_counter exceptions, failures;
    auto all = prom::count_exceptions(exceptions) | prom::count_failures(failures);
#if PROMETHEUS_ASYNC_EXCEPTIONS
    CHECK(run(all(stdexec::just_error(std::make_exception_ptr(std::runtime_error("x"))))).errors == 1);
    CHECK((exceptions.count == 1 && failures.count == 0));
    CHECK(run(prom::count_exceptions<std::logic_error>(exceptions, stdexec::just_error(std::make_exception_ptr(std::runtime_error("x"))))).errors == 1);
#else
    CHECK(run(all(stdexec::just_error(prom::error(prom::errc::timeout, "x")))).errors == 1);
#endif
    CHECK((exceptions.count == 1 && failures.count == 0));
    CHECK(run(all(stdexec::just_error(std::make_error_code(std::errc::timed_out)))).errors == 1);
    CHECK(run(all(stdexec::just_error(5))).errors == 1);  // nothing can be asked of it: an error is a failure
    CHECK((exceptions.count == 1 && failures.count == 2));
    CHECK(run(all(stdexec::just_stopped())).stopped == 1);
    CHECK(run(all(stdexec::just())).value == -1);
    CHECK(run(all(stdexec::just(prom::result<int>(3)))).value == 3);
    CHECK((exceptions.count == 1 && failures.count == 2));
    CHECK(run(all(stdexec::just(prom::result<int>(prom::error(prom::errc::timeout, "x"))))).value == -2);
    CHECK(run(prom::count_failures(failures, stdexec::just(-1), [](int n) { return n < 0; })).value == -1);
    CHECK((exceptions.count == 1 && failures.count == 4));
}

TEST_CASE("A decorated function may return a sender by reference, or one that cannot be moved; a throw is measured") {
    fake_observer o;
    fake_counter c;
    auto all = prom::time(o) | prom::count_exceptions(c);
    const auto kept = stdexec::just(8);
    CHECK(run(all([&]() -> decltype(kept)& { return kept; })()).value == 8);
    CHECK(run(all(kept)).value == 8);
    auto placed = prom::time(o)([] { return in_place(); })();
    CHECK(stdexec::get_env(placed).id == 2);
    CHECK(o.seen.size() == 2);
#if PROMETHEUS_ASYNC_EXCEPTIONS
    CHECK_THROWS_AS((void)all([]() -> decltype(stdexec::just(1)) { throw 1; })(), int);
    CHECK((o.seen.size() == 3 && c.count == 1));
#endif
}
