// 24_odds_and_ends: names that the other examples do not need: buckets, a metric of another library, a page in pieces,
// events of the library, a future, a failure that was not handled.
//
//     c++ -std=c++20 examples/24_odds_and_ends.cpp -o odds -pthread && ./odds
//
// prints
//
//     prometheus_async.hpp is as its implementation says
//     counter, gauge and min_max_gauge are types
//     buckets: 0.001 0.01 0.1 1, and 0 5 10
//     theirs: 1 call
//     1 start of a thread was timed; it gave 42
//     step_ignored: 1
//     "9" is no name: 9_total: not [a-zA-Z_:][a-zA-Z0-9_:]*: use utf8() for it
//     not handled: lost
//     outcome: too late
//     openmetrics is application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores
//     a page of 4 lines in pieces of 64 octets

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#define PROMETHEUS_ASYNC_NO_NETWORK 1  // metrics and verbs only
#include "../prometheus_async.hpp"

#include <algorithm>
#include <cstdio>
#include <exception>
#include <future>
#include <stdexcept>

namespace prom = prometheus_async;

// A metric of another library under the verbs: time() asks for observe(double), count_* for inc(), track_inprogress() for dec() too.
struct foreign_histogram { int calls = 0; void Observe(double) { ++calls; } };
struct seconds_of {
    foreign_histogram& theirs;
    void observe(double seconds) const { theirs.Observe(seconds); }
};
static_assert(prom::observer<seconds_of> && prom::incrementer<prom::counter> && prom::up_down<prom::gauge>);

int main() {
    const bool same = std::string_view(prom::version()) == PROMETHEUS_ASYNC_VERSION_STRING;  // what was linked, what is included
    std::printf("prometheus_async.hpp is %s\n", same ? "as its implementation says" : "another version than its implementation");
    std::printf("%s, %s and %s are types\n", prom::type_name(prom::counter::type), prom::type_name(prom::gauge::type),
                prom::type_name(prom::min_max_gauge::type));
    const std::vector<double> fine = prom::exponential_buckets(0.001, 10, 4), even = prom::linear_buckets(0, 5, 3);
    std::printf("buckets: %g %g %g %g, and %g %g %g\n", fine[0], fine[1], fine[2], fine[3], even[0], even[1], even[2]);
    prom::registry registry;
    const prom::histogram start_time = registry.make_histogram("start_seconds", "Time to start.", {.buckets = fine});

    foreign_histogram theirs;
    prom::time(seconds_of{theirs})([] {})();
    std::printf("theirs: %d call\n", theirs.calls);

    // A future is over long after the call that made it: the verbs refuse it, unless only the call is meant.
    auto started = prom::time(start_time)(prom::call_only([] { return std::async(std::launch::async, [] { return 42; }); }))();
    std::printf("%d start of a thread was timed; it gave %d\n", static_cast<int>(start_time.count()), started.get());

    // Errors of updates are counted; a server with .self_metrics shows the counts, and reports them to on_event.
    const prom::counter sent = registry.make_counter("sent_total", "Sent.");
    sent.inc(-1);
    std::printf("%s: %d\n", prom::event_name(prom::event_kind::step_ignored), static_cast<int>(prom::event_count(prom::event_kind::step_ignored)));
    try {
        (void)registry.make_counter("9", "No.");
    } catch (const prom::failure& no) {
        std::printf("\"9\" is no name: %s\n", no.what());
    }

    prom::on_unhandled_failure([](const prom::fault& why, void*) {
        try { std::rethrow_exception(why); } catch (const std::exception& e) { std::printf("not handled: %s\n", e.what()); }
    });
    { prom::deferred<int>().fail(std::make_exception_ptr(std::runtime_error("lost"))); }
    prom::deferred<int> late;
    late.add_both([](prom::outcome<int>& came) { std::printf("outcome: %s\n", came ? "in time" : "too late"); return 0; });
    late.fail(prom::error(prom::errc::timeout, "too late"));

    // A page in pieces, for a transport of one's own: it costs no memory, however long it is.
    const prom::negotiation agreed = prom::negotiate("application/openmetrics-text;version=1.0.0");
    std::printf("openmetrics is %s\n", std::string(prom::content_type(agreed.as, agreed.names)).c_str());
    prom::registry small;
    const prom::unknown passed_on = small.make_unknown("passed_on", "Of unknown type.");
    passed_on.set(1);
    prom::cursor page;
    prom::registry* const these[] = {&small};
    page.start({.as = agreed.as, .names = agreed.names, .registries = these});
    char piece[64];
    int lines = 0;
    for (prom::pulled got{0, prom::pull::more}; got.what == prom::pull::more;) {
        got = page.next(piece);
        lines += static_cast<int>(std::count(piece, piece + got.bytes, '\n'));
    }
    std::printf("a page of %d lines in pieces of 64 octets\n", lines);
}
