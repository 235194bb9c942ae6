// process_* from /proc: room [41].
#define PROMETHEUS_ASYNC_NO_NETWORK 1
#include "prometheus_async.hpp"
#include "examples/promlint.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdio>
#include <sys/stat.h>
#include <unistd.h>

namespace prom = prometheus_async;

namespace {

// A /proc of our own.
struct fake_proc {
    std::string root;
    std::vector<std::string> made;

    fake_proc() {
        char path[] = "/tmp/prometheus_async.XXXXXX";
        root = ::mkdtemp(path);
        folder("/self");
        folder("/self/fd");
    }
    ~fake_proc() {
        while (!made.empty()) std::remove(made.back().c_str()), made.pop_back();
        std::remove(root.c_str());
    }
    void folder(const std::string& path) { ::mkdir((root + path).c_str(), 0755), made.push_back(root + path); }
    void file(const std::string& path, const std::string& text) {
        std::FILE* f = std::fopen((root + path).c_str(), "w");
        std::fwrite(text.data(), 1, text.size(), f);
        std::fclose(f);
        made.push_back(root + path);
    }
};

std::string page(prom::registry& r, prom::format as = prom::format::text_0_0_4) {
    prom::registry* const one[] = {&r};
    prom::page_options asked;
    asked.as = as;
    asked.registries = one;
    return prom::expose(asked);
}
bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

const std::string limits =
    "Limit                     Soft Limit           Hard Limit           Units     \n"
    "Max cpu time              unlimited            unlimited            seconds   \n"
    "Max open files            1024                 524288               files     \n"
    "Max address space         unlimited            unlimited            bytes     \n";

}  // namespace

TEST_CASE("process metrics tell what /proc tells, under the official names") {
    fake_proc proc;
    // The program's name holds what a careless reader trips over.
    proc.file("/self/stat", "42 (a b) c) 1 2) S 1 42 42 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 7 0 1000 123456789 321 18446744073709551615 1 1 0 0 0\n");
    proc.file("/self/limits", limits);
    proc.file("/stat", "cpu  1 2 3\nintr " + std::string(5000, '0') + "\nctxt 1\nbtime 1700000000\nprocesses 5\n");
    for (const char* fd : {"/self/fd/1000", "/self/fd/1001", "/self/fd/1002"}) proc.file(fd, "");
    prom::registry mine;
    prom::add_process_metrics(mine, proc.root);
    const std::string text = page(mine);
    const double ticks = static_cast<double>(::sysconf(_SC_CLK_TCK));
    CHECK(mine.sample_value("process_cpu_seconds_total").value() == 200 / ticks);
    CHECK(mine.sample_value("process_open_fds").value() == 3);
    CHECK(mine.sample_value("process_max_fds").value() == 1024);
    CHECK(mine.sample_value("process_virtual_memory_bytes").value() == 123456789);
    CHECK(mine.sample_value("process_virtual_memory_max_bytes").value() == 18446744073709551615.0);
    CHECK(mine.sample_value("process_resident_memory_bytes").value() == 321.0 * static_cast<double>(::sysconf(_SC_PAGESIZE)));
    CHECK(mine.sample_value("process_start_time_seconds").value() == 1700000000 + 1000 / ticks);
    CHECK(mine.sample_value("process_threads").value() == 7);
    CHECK(has(text, "# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.\n# TYPE process_cpu_seconds_total counter\n"));
    CHECK(has(text, "# TYPE process_open_fds gauge\nprocess_open_fds 3\n"));
    CHECK(prom_lint::lint(mine).empty());
    const std::string openmetrics = page(mine, prom::format::openmetrics_1_0_0);
    CHECK(has(openmetrics, "# TYPE process_cpu_seconds counter\n# UNIT process_cpu_seconds seconds\n"));
}

TEST_CASE("what cannot be had is left out, and is never NaN") {
    fake_proc proc;
    prom::registry mine;
    prom::add_process_metrics(mine, proc.root);
    CHECK(page(mine) == "# HELP process_open_fds Number of open file descriptors.\n# TYPE process_open_fds gauge\nprocess_open_fds 0\n");
    proc.file("/self/limits", "Max open files\n");
    for (const char* broken : {"", "1", "1 (", "1 (x)", "1 (x) S", "1 (x) S 1", "1 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20"}) {
        proc.file("/self/stat", broken);
        CHECK_FALSE(has(page(mine), "memory"));
        CHECK_FALSE(has(page(mine), "NaN"));
        CHECK_FALSE(has(page(mine), "max_fds"));
    }
    // What qemu-user 7.2 writes: a process without threads and memory, which is none.
    proc.file("/self/stat", "42 (x) S 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1000 0 0 18446744073709551615 0 0 0\n");
    proc.file("/stat", "btime 1700000000\n");
    prom::registry emulated;
    prom::add_process_metrics(emulated, proc.root);
    CHECK(page(emulated) == "# HELP process_open_fds Number of open file descriptors.\n# TYPE process_open_fds gauge\nprocess_open_fds 0\n");
    prom::registry other;
    prom::add_process_metrics(other, "/nowhere/proc");
    CHECK(page(other) == "");
}

#if defined(__linux__)
TEST_CASE("this process is told about truthfully") {
    prom::registry mine;
    prom::add_process_metrics(mine);
    const std::string text = page(mine);
    for (const char* name : {"process_cpu_seconds_total", "process_open_fds", "process_max_fds", "process_virtual_memory_bytes", "process_virtual_memory_max_bytes",
                             "process_resident_memory_bytes", "process_start_time_seconds", "process_threads"}) {
        CAPTURE(name);
        const auto value = mine.sample_value(name);
        REQUIRE(value);
        CHECK(*value >= 0);
    }
    CHECK(mine.sample_value("process_threads").value() >= 1);
    CHECK(mine.sample_value("process_resident_memory_bytes").value() < mine.sample_value("process_virtual_memory_bytes").value());
    CHECK(mine.sample_value("process_start_time_seconds").value() < prom::wall_now() + 2);
    CHECK(mine.sample_value("process_start_time_seconds").value() == mine.sample_value("process_start_time_seconds").value());

    prom::add_process_metrics(mine);  // changes nothing: not even one that is left out with an error
    prom::page_options strict;
    prom::registry* const one[] = {&mine};
    strict.registries = one;
    strict.on_collector_error = prom::collector_errors::fail;
    CHECK(prom::expose(strict).find("# TYPE process_threads") != std::string::npos);

    const double before = mine.sample_value("process_open_fds").value();
    std::FILE* file = std::fopen("/dev/null", "r");
    CHECK(mine.sample_value("process_open_fds").value() == before + 1);
    std::fclose(file);
    CHECK(mine.sample_value("process_open_fds").value() == before);
}
#endif
