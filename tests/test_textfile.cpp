// needs-network
#include "support/faults.hpp"

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include <doctest/doctest.h>

#include <array>
#include <dirent.h>
#include <fstream>
#include <optional>
#include <sstream>
#include <sys/stat.h>
#include <sys/wait.h>

namespace prom = prometheus_async;

namespace {

struct directory {
    std::string path = "/tmp/prometheus_async_textfile_" + std::to_string(::getpid());
    prom::registry mine;
    std::array<prom::registry*, 1> one{&mine};
    prom::counter jobs{"jobs_total", "Jobs done.", {.registry = &mine}};
    std::string file = path + "/job.prom";
    directory() { REQUIRE(::mkdir(path.c_str(), 0755) == 0); }
    ~directory() {
        for (const std::string& f : files()) ::unlink((path + '/' + f).c_str());
        ::rmdir(path.c_str());
    }
    prom::textfile_options options(bool keep = false) { return {.path = file, .registries = one, .keep_file = keep}; }
    std::vector<std::string> files() const {
        std::vector<std::string> found;
        DIR* open = ::opendir(path.c_str());
        while (const dirent* e = ::readdir(open))
            if (e->d_name[0] != '.') found.push_back(e->d_name);
        ::closedir(open);
        return found;
    }
    std::string read() const {
        std::ostringstream text;
        text << std::ifstream(file).rdbuf();
        return text.str();
    }
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

TEST_CASE("keep_file leaves it, remove() takes it all the same") {
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

TEST_CASE("whatever fails amid the writing is an error that names the file, which is as it was") {
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
