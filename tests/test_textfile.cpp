// needs-network
#include "support/faults.hpp"

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include "support/folder.hpp"
#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <fstream>
#include <optional>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>

namespace prom = prometheus_async;

namespace {

struct directory : folder {
    prom::registry mine;
    std::array<prom::registry*, 1> one{&mine};
    prom::counter jobs{"jobs_total", "Jobs done.", {.registry = &mine}};
    std::string file = path + "/job.prom";
    directory() : folder("textfile") {}
    prom::textfile_options options(bool keep = false) { return {.path = file, .registries = one, .keep_file = keep}; }
    std::string read() const { return folder::read("job.prom"); }
    std::string page() const { return prom::expose({.registries = one}); }
};

}  // namespace

TEST_CASE("the file is the page, for every reader whatever the umask, and goes with the object") {
    directory d;
    const mode_t mask = ::umask(077);
    {
        prom::textfile f(d.options());
        CHECK(d.files().empty());
        for (int i = 0; i < 3; ++i) {
            d.jobs.inc();
            REQUIRE(f.write());
            CHECK(d.read() == d.page());
            CHECK(d.files() == std::vector<std::string>{"job.prom"});
        }
        struct stat made;
        REQUIRE(::stat(d.file.c_str(), &made) == 0);
        CHECK((made.st_mode & 0777) == 0644);
    }
    ::umask(mask);
    CHECK(d.files().empty());
}

TEST_CASE("a long page comes piece by piece, also one whose label values look like samples with a timestamp") {
    directory d;
    const prom::family<prom::gauge, "text"> f{"long_page", "A } 1 2.", {.registry = &d.mine}};
    for (int i = 0; i < 2000; ++i) f("} 1 2 # " + std::to_string(i)).set(i);
    prom::textfile t(d.options());
    REQUIRE(t.write());
    CHECK(d.read() == d.page());
    CHECK(d.read().size() > 65536);
}

TEST_CASE("of two that write one file at once, neither publishes the unfinished file of the other") {
    directory d;
    const prom::detail::string file(d.file);
    {
        prom::detail::replaced_file first(file), second(file);
        CHECK(first.write("all of it"));
        CHECK(second.write("the begin"));
        const auto made = first.replace();
        REQUIRE_FALSE(made);
        CHECK(made.why().describe() == d.file + ": something else writes this file at the same time");
        CHECK(d.read().empty());
        CHECK(second.write(" and the end"));
        CHECK(second.replace());
        CHECK(d.read() == "the begin and the end");
    }
    CHECK(d.files() == std::vector<std::string>{"job.prom"});
}

TEST_CASE("keep_file leaves it, remove() removes it nevertheless") {
    directory d;
    { REQUIRE(prom::textfile(d.options(true)).write()); }
    CHECK(d.files().size() == 1);
    prom::textfile f(d.options(true));
    CHECK(f.remove());  // of the one before
    CHECK(d.files().size() == 1);
    REQUIRE(f.write());
    CHECK(f.remove());
    CHECK(f.remove());
    CHECK(d.files().empty());
}

TEST_CASE("the file of a successor, and that of a forked child's parent, is left alone") {
    directory d;
    std::optional<prom::textfile> old(std::in_place, d.options()), successor(std::in_place, d.options());
    REQUIRE(old->write());
    REQUIRE(successor->write());
    old.reset();
    CHECK(d.files().size() == 1);
    const pid_t child = ::fork();
    if (child == 0) {
        successor.reset();
        ::_exit(0);
    }
    int status = 1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    CHECK(d.files().size() == 1);
    successor.reset();
    CHECK(d.files().empty());
}

TEST_CASE("what node_exporter would not read is refused, and the file that was there stays") {
    directory d;
    for (const char* name : {"", "/x.txt", "/x.prom.tmp", "/xprom"}) {
        const std::string path = d.path + name;
        const auto r = prom::textfile({.path = path, .registries = d.one}).write();
        REQUIRE(!r);
        CHECK(r.why().code() == prom::errc::invalid_option);
    }
    prom::textfile f(d.options());
    REQUIRE(f.write());
    const std::string before = d.read();
    d.jobs.inc();
    const auto dated = d.mine.add_collector([](prom::sample_sink& to) {
        to.family(prom::metric_type::gauge, "dated", "Help.");
        to.sample(1, {}, {.timestamp = 1.5e9});
    });
    const auto r = f.write();
    REQUIRE(!r);
    CHECK(r.why().code() == prom::errc::unsupported);
    CHECK(std::string_view(r.why().describe()) == "textfile: node_exporter refuses a file with a timestamp, as of dated");
    CHECK(d.read() == before);
    CHECK(d.files().size() == 1);
}

TEST_CASE("the shortest name of a file is one letter") {
    directory d;
    char before[4096];
    REQUIRE((::getcwd(before, sizeof before) && ::chdir(d.path.c_str()) == 0));
    {
        prom::textfile f({.path = "a.prom", .registries = d.one});
        CHECK(f.write());
        CHECK(d.files() == std::vector<std::string>{"a.prom"});
    }
    CHECK_FALSE(prom::textfile({.path = ".prom", .registries = d.one}).write());
    REQUIRE(::chdir(before) == 0);
}

TEST_CASE("of a long name with a timestamp the first 48 octets are told") {
    for (std::size_t size : {47u, 48u, 49u, 200u}) {
        directory d;
        const std::string name(size, 'x');
        const auto dated = d.mine.add_collector([&](prom::sample_sink& to) {
            to.family(prom::metric_type::gauge, name, "Help.");
            to.sample(1, {}, {.timestamp = 1.5e9});
        });
        const auto r = prom::textfile(d.options()).write();
        REQUIRE(!r);
        CHECK(r.why().describe() == "textfile: node_exporter refuses a file with a timestamp, as of " + name.substr(0, 48));
    }
}

TEST_CASE("a path with a NUL is no file's: that of the name before it stays as it is") {
    directory d;
    const std::string path = d.file + std::string("\0.prom", 6);
    std::ofstream(d.file) << "another's";
    const auto r = prom::textfile({.path = path, .registries = d.one}).write();
    REQUIRE_FALSE(r);
    CHECK(r.why().sys() == EINVAL);
    CHECK(d.read() == "another's");
    CHECK(d.files() == std::vector<std::string>{"job.prom"});
}

TEST_CASE("what is neither a regular file nor a symbolic link is refused; the link itself is replaced") {  // test_file_sd has all kinds
    directory d;
    prom::textfile f(d.options());
    for (int kind = 0; kind != 2; ++kind) {
        REQUIRE((kind == 0 ? ::mkfifo(d.file.c_str(), 0600) : ::mkdir(d.file.c_str(), 0700)) == 0);
        const auto r = f.write();
        REQUIRE_FALSE(r);
        CHECK(r.why().code() == prom::errc::invalid_option);
        CHECK(r.why().describe() == d.file + " is not a regular file");
        CHECK(f.remove());  // it is another's
        CHECK(d.files() == std::vector<std::string>{"job.prom"});
        CHECK((kind == 0 ? ::unlink(d.file.c_str()) : ::rmdir(d.file.c_str())) == 0);
    }
    REQUIRE(::symlink("/dev/full", d.file.c_str()) == 0);
    CHECK(f.write());
    CHECK(d.read() == d.page());
    const std::string beside = d.file + "." + std::to_string(::getpid()) + ".tmp";
    REQUIRE(::mkfifo(beside.c_str(), 0600) == 0);  // to open it would wait for its reader
    CHECK(f.write());
    CHECK(d.files() == std::vector<std::string>{"job.prom"});
}

TEST_CASE("every failure during the writing is an error that names the file, which is as it was") {
    directory d;
    prom::textfile f(d.options());
    REQUIRE(f.write());
    const std::string before = d.read();
    d.jobs.inc();
    const int open = faults::open_descriptors();
    for (const char* call : {"open", "write", "fchmod", "fsync", "fstat", "close", "rename"}) {
        CAPTURE(call);
        faults::fail(call, EIO);
        const auto r = f.write();
        faults::reset();
        REQUIRE(!r);
        CHECK(r.why().sys() == EIO);
        CHECK(std::string_view(r.why().describe()).find(d.file) != std::string_view::npos);
        CHECK(d.read() == before);
        CHECK(d.files().size() == 1);
        CHECK(faults::open_descriptors() == open);
    }
    auto failing = d.mine.add_collector([](prom::sample_sink& to) { to.fail("not today"); });
    prom::textfile strict({.path = d.file, .registries = d.one, .on_collector_error = prom::collector_errors::fail});
    CHECK(strict.write().why().code() == prom::errc::canceled);
    CHECK(d.read() == before);
    CHECK(f.write());
    CHECK(d.read() != before);
}

TEST_CASE("self-metrics, why() and an event tell what became of each write") {
    directory d;
    prom::registry numbers;
    static std::vector<prom::event_kind> events;
    events.clear();
    prom::textfile f({.path = d.file, .registries = d.one, .on_collector_error = prom::collector_errors::fail, .self_metrics = &numbers,
                      .on_event = [](const prom::event& e, void*) { events.push_back(e.kind); }});
    const prom::label path{"path", d.file};
    const auto value = [&](const char* name, const char* reason = nullptr) {
        const auto one = reason ? numbers.sample_value(name, {path, {"reason", reason}}) : numbers.sample_value(name, {path});
        return one ? *one : -1;
    };
    CHECK(value("prometheus_async_textfile_last_success_timestamp_seconds") == 0);
    REQUIRE(f.write());
    CHECK(f.why().empty());
    CHECK(events.empty());
    CHECK(value("prometheus_async_textfile_written_total") == 1);
    CHECK(value("prometheus_async_textfile_octets_total") == static_cast<double>(d.page().size()));
    CHECK(value("prometheus_async_textfile_last_success_timestamp_seconds") > 1.5e9);

    faults::fail("rename", ENOSPC);
    CHECK_FALSE(f.write());
    faults::reset();
    CHECK(f.why().find("No space left on device") != std::string::npos);
    CHECK(value("prometheus_async_textfile_failed_total", "file") == 1);
    {
        const auto dated = d.mine.add_collector([](prom::sample_sink& to) {
            to.family(prom::metric_type::gauge, "dated", "");
            to.sample(1, {}, {.timestamp = 1.5e9});
        });
        CHECK_FALSE(f.write());
        CHECK(value("prometheus_async_textfile_failed_total", "timestamp") == 1);
    }
    CHECK(events == std::vector(2, prom::event_kind::textfile_failed));
    {
        const auto failing = d.mine.add_collector([](prom::sample_sink& to) { to.fail("not today"); });
        CHECK_FALSE(f.write());
        CHECK(value("prometheus_async_textfile_failed_total", "page") == 1);
        CHECK(events == std::vector{prom::event_kind::textfile_failed, prom::event_kind::textfile_failed, prom::event_kind::callback_failed,
                                    prom::event_kind::textfile_failed});
    }
    CHECK(f.write());
    CHECK(f.why().empty());
    CHECK(value("prometheus_async_textfile_written_total") == 2);
}

TEST_CASE("neither on_event nor a collector writes or removes the file that is being written") {
    directory d;
    struct asked {
        std::optional<prom::textfile> f{};
        std::vector<std::string> why{};
        void both() {
            for (const auto& r : {f->write(), f->remove()}) why.push_back(r ? "done" : r.why().describe());
            why.push_back(f->why());
        }
    } a;
    a.f.emplace(prom::textfile_options{.path = d.file, .registries = d.one, .on_event = [](const prom::event&, void* to) { static_cast<asked*>(to)->both(); },
                                       .context = &a});
    const std::string inside = "textfile: it is being written: neither on_event nor a collector may write or remove it";
    {
        const auto writes = d.mine.add_collector([&](prom::sample_sink&) { a.both(); });
        CHECK(a.f->write());
        CHECK(a.why == std::vector<std::string>{inside, inside, ""});
        CHECK(d.files().size() == 1);
    }
    a.why.clear();
    faults::fail("rename", EIO);
    const auto r = a.f->write();
    faults::reset();
    REQUIRE_FALSE(r);
    CHECK(a.why == std::vector<std::string>{inside, inside, r.why().describe()});
    CHECK(a.f->write());
    CHECK(a.f->remove());
    CHECK(d.files().empty());
}

TEST_CASE("a textfile may be destroyed by its own on_event, and by a collector of its page") {
    directory d;
    struct destroyer {
        std::optional<prom::textfile> f{};
        int events = 0;
        std::atomic<bool> done = false;
        static void on_event(const prom::event&, void* self) { static_cast<destroyer*>(self)->destroy(); }
        void destroy() {
            ++events;
            f.reset();
            done = true;
        }
    };
    for (const bool keeps : {false, true}) {
        CAPTURE(keeps);
        {
            destroyer one;
            one.f.emplace(prom::textfile_options{.path = d.file, .registries = d.one, .keep_file = keeps, .self_metrics = &d.mine,
                                                 .on_event = &destroyer::on_event, .context = &one});
            CHECK(one.f->write());
            faults::fail("rename", EIO);
            CHECK_FALSE(one.f->write());
            faults::reset();
            CHECK(one.events == 1);
            CHECK(d.files().size() == keeps);
        }
        {
            destroyer one;
            const auto destroys = d.mine.add_collector([&](prom::sample_sink& out) {
                if (one.f) one.destroy();
                out.sample(1);  // of no family: it is left out, without an event
            });
            one.f.emplace(prom::textfile_options{.path = d.file, .registries = d.one, .keep_file = keeps, .on_event = &destroyer::on_event, .context = &one});
            const auto r = one.f->write();
            REQUIRE_FALSE(r);
            CHECK(r.why().describe() == std::string("textfile: it was destroyed by on_event or a collector"));
            CHECK(one.events == 1);
            CHECK(d.files().size() == keeps);
        }
#if !PROMETHEUS_ASYNC_NO_THREADS
        {
            destroyer one;
            std::atomic<bool> begins = false;
            const auto fails = d.mine.add_collector([&](prom::sample_sink&) {
                while (!begins) std::this_thread::yield();
                if (one.f) one.destroy();  // on its own thread, which cannot be joined
            });
            one.f.emplace(prom::textfile_options{.path = d.file, .registries = d.one, .keep_file = keeps, .interval = 0.001});
            begins = true;
            while (!one.done) std::this_thread::yield();
            while (d.files().size() != keeps) std::this_thread::yield();
        }
#endif
        if (keeps) ::unlink(d.file.c_str());
    }
}

#if PROMETHEUS_ASYNC_NO_THREADS
TEST_CASE("without threads, interval and a write beside the loop are refused, and say so") {
    directory d;
    const prom::textfile by_itself({.path = d.file, .registries = d.one, .interval = 1});
    CHECK(by_itself.why().find("this build has no threads") != std::string::npos);
    prom::event_loop loop;
    prom::textfile f(d.options());
    CHECK(loop.run(f.write(loop)).why().code() == prom::errc::unsupported);
    CHECK(f.write());
}
#else
namespace {
template <class Is>
void wait_until(Is is) {
    while (!is()) ::usleep(1000);  // the runner has a time limit
}
}  // namespace

TEST_CASE("with interval it is written again and again, and goes with the object") {
    directory d;
    {
        prom::textfile f({.path = d.file, .registries = d.one, .interval = 0.001});
        for (int i = 0; i != 3; ++i) {
            d.jobs.inc();
            wait_until([&] { return d.read() == d.page(); });
        }
        CHECK(f.why().empty());
    }
    CHECK(d.files().empty());
}

TEST_CASE("with interval and keep_file the last values stay") {
    directory d;
    {
        prom::textfile f({.path = d.file, .registries = d.one, .keep_file = true, .interval = 1e6});
        wait_until([&] { return d.files() == std::vector<std::string>{"job.prom"}; });
        d.jobs.inc(41);
    }
    CHECK(d.read() == d.page());
    CHECK(d.read().find("jobs_total 41") != std::string::npos);
}

TEST_CASE("a failure of a write by itself is told, and the next one is tried") {
    directory d;
    std::atomic<int> failures = 0;
    const std::string path = d.path + "/later/job.prom";
    {
        prom::textfile f({.path = path, .registries = d.one, .interval = 0.001,
                          .on_event = [](const prom::event& e, void* to) { static_cast<std::atomic<int>*>(to)->fetch_add(e.kind == prom::event_kind::textfile_failed); },
                          .context = &failures});
        wait_until([&] { return failures > 1; });
        CHECK(f.why().find("No such file or directory") != std::string::npos);
        REQUIRE(::mkdir((d.path + "/later").c_str(), 0755) == 0);
        wait_until([&] { return ::access(path.c_str(), R_OK) == 0 && f.why().empty(); });
    }
    CHECK(::rmdir((d.path + "/later").c_str()) == 0);
}

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("a thread whose loop finds no descriptor is a failure that is told, and the next write from a loop tries again") {
    directory d;
    prom::registry numbers;
    prom::event_loop loop;
    const auto none_left = [] { for (const char* call : {"eventfd", "pipe2", "kqueue", "pipe"}) faults::fail(call, EMFILE); };
    none_left();
    prom::textfile f({.path = d.file, .registries = d.one, .interval = 1e6, .self_metrics = &numbers});
    CHECK(f.why().find("Too many open files") != std::string::npos);
    CHECK(*numbers.sample_value("prometheus_async_textfile_failed_total", {{"path", d.file}, {"reason", "file"}}) == 1);
    none_left();
    CHECK(loop.run(f.write(loop)).why().sys() == EMFILE);
    faults::reset();
    CHECK(d.files().empty());
    CHECK(loop.run(f.write(loop)));
    CHECK(f.why().empty());
}
#endif

TEST_CASE("a write from a loop lets the loop go on: here the page is made once the loop has had a turn") {
    directory d;
    std::atomic<bool> began = false, turned = false;
    const auto waits = d.mine.add_collector([&](prom::sample_sink& to) {
        began = true;
        wait_until([&] { return turned.load(); });
        to.family(prom::metric_type::gauge, "waited", "");
        to.sample(1);
    });
    prom::textfile f(d.options(true));
    prom::event_loop loop;
    const auto run = [](prom::event_loop& on, prom::textfile& to, std::atomic<bool>& begun, std::atomic<bool>& turn) -> prom::task<prom::result<void>> {
        on.spawn([](prom::event_loop& in, std::atomic<bool>& first, std::atomic<bool>& second) -> prom::task<void> {
            while (!first) co_await in.sleep(0.001);
            second = true;
        }(on, begun, turn));
        co_return co_await to.write(on);
    };
    CHECK(loop.run(run(loop, f, began, turned)));
    CHECK(d.read() == d.page());
    // A failure comes back too.
    prom::textfile wrong({.path = d.path, .registries = d.one});
    CHECK(loop.run(wrong.write(loop)).why().code() == prom::errc::invalid_option);
}

TEST_CASE("writes that were asked for when the textfile ends come to an end; a loop that ends forgets them") {
    directory d;
    std::optional<prom::textfile> f(std::in_place, d.options());
    int ended = 0;
    {
        prom::event_loop loop;
        const auto ask = [](prom::event_loop& on, prom::textfile& to, int& count) -> prom::task<void> {
            const prom::result<void> how = co_await to.write(on);
            count += how || how.why().code() == prom::errc::canceled;
        };
        for (int i = 0; i != 5; ++i) loop.spawn(ask(loop, *f, ended));
        f.reset();
        while (ended != 5) loop.poll(1);
    }
    CHECK(d.files().empty());
    f.emplace(d.options());
    {
        prom::event_loop loop;
        loop.spawn([](prom::event_loop& on, prom::textfile& to) -> prom::task<void> { static_cast<void>(co_await to.write(on)); }(loop, *f));
    }
    f.reset();
    CHECK(d.files().empty());
}

TEST_CASE("in a forked child the file is the parent's, whatever the thread was doing") {
    directory d;
    std::optional<prom::textfile> f(std::in_place, prom::textfile_options{.path = d.file, .registries = d.one, .interval = 0.0001});
    wait_until([&] { return !d.files().empty(); });
    const pid_t child = ::fork();
    if (child == 0) {
        const bool refused = f->write().why().code() == prom::errc::canceled && f->remove() && f->why() == "textfile: it belongs to the parent process";
        const int had = faults::open_descriptors();
        f.reset();
        ::_exit(refused && faults::open_descriptors() < had ? 0 : 1);
    }
    int status = 1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    wait_until([&] { return d.read() == d.page(); });
    f.reset();
    CHECK(d.files().empty());
}

TEST_CASE("a forked child may have a thread of its own for a textfile that has none in the parent") {
    directory d;
    std::optional<prom::textfile> f(std::in_place, d.options());
    const pid_t child = ::fork();
    if (child == 0) {
        prom::event_loop loop;
        const bool written = loop.run(f->write(loop)) && f->write() && d.read() == d.page();
        f.reset();
        ::_exit(written && d.files().empty() ? 0 : 1);
    }
    int status = 1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}
#endif
