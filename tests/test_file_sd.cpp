// needs-network
#include "support/faults.hpp"

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include "support/folder.hpp"
#include "support/scripted_peer.hpp"

#include <fstream>
#include <sstream>
#include <sys/stat.h>
#include <sys/un.h>

namespace prom = prometheus_async;
using namespace prometheus_async::detail;
using namespace scripted;

namespace {

struct directory : folder {
    directory() : folder("test") {}
};

/// A unix socket at a path.
struct socket_file {
    int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    explicit socket_file(const std::string& path) {
        sockaddr_un at{};
        at.sun_family = AF_UNIX;
        REQUIRE(path.size() < sizeof at.sun_path);
        path.copy(at.sun_path, path.size());
        REQUIRE(::bind(fd, reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0);
    }
    socket_file(const socket_file&) = delete;
    ~socket_file() { ::close(fd); }
};

prom::result<prom::registration> start(prom::event_loop& loop, const std::string& path, bool keep = false, bool https = false) {
    return finish(loop, file_sd_start(prom::detail::shared(
                            new file_sd_target{{}, {{}, prom::detail::string(path), "", {{"team", "a\"b"}}, keep}, "[::1]:9464", https})));
}

}  // namespace

TEST_CASE("the file names the server with its labels, and is gone after the close") {
    prom::event_loop loop(on_fake_time());
    directory d;
    auto r = start(loop, d.path + "/x.json");
    REQUIRE(r);
    CHECK(d.files() == std::vector<std::string>{"x.json"});
    CHECK(d.read("x.json") == "[{\"targets\":[\"[::1]:9464\"],\"labels\":{\"team\":\"a\\\"b\"}}]\n");
    CHECK(finish(loop, r->deregister()));
    CHECK(d.files().empty());
    CHECK(finish(loop, r->deregister()));
}

TEST_CASE("a server with TLS is told as https") {
    prom::event_loop loop(on_fake_time());
    directory d;
    REQUIRE(start(loop, d.path + "/x.json", false, true));
    CHECK(d.read("x.json").find("\"labels\":{\"__scheme__\":\"https\",\"team\"") != std::string::npos);
}

TEST_CASE("keep_file leaves an empty list") {
    prom::event_loop loop(on_fake_time());
    directory d;
    auto r = start(loop, d.path + "/x.json", true);
    CHECK(finish(loop, r->deregister()));
    CHECK(d.read("x.json") == "[]\n");
}

TEST_CASE("the file of a successor is left alone") {
    prom::event_loop loop(on_fake_time());
    directory d;
    auto old = start(loop, d.path + "/x.json");
    auto successor = start(loop, d.path + "/x.json");
    CHECK(finish(loop, old->deregister()));
    CHECK(d.files().size() == 1);
    CHECK(finish(loop, successor->deregister()));
    CHECK(d.files().empty());
}

TEST_CASE("a path that Prometheus would not read as JSON is refused, and one that cannot be written is an error") {
    prom::event_loop loop(on_fake_time());
    directory d;
    for (const char* name : {"", "/x.yml", "/x.json.tmp", "/json"}) {
        const auto r = start(loop, d.path + name);
        REQUIRE(!r);
        CHECK(r.why().code() == prom::errc::invalid_option);
    }
    const auto r = start(loop, d.path + "/missing/x.json");
    REQUIRE(!r);
    CHECK(r.why().sys() == ENOENT);
    ::mkdir((d.path + "/d.json").c_str(), 0755);
    CHECK(!start(loop, d.path + "/d.json"));
    CHECK(d.files() == std::vector<std::string>{"d.json"});  // nothing half-written is left
    ::rmdir((d.path + "/d.json").c_str());
}

TEST_CASE("a path that is a FIFO, a socket, a directory or a device is refused, and a symbolic link is replaced") {
    prom::event_loop loop(on_fake_time());
    directory d;
    const std::string path = d.path + "/x.json";
    const auto refused = [&] {
        const auto r = start(loop, path);
        REQUIRE(!r);
        CHECK(r.why().code() == prom::errc::invalid_option);
        CHECK(r.why().describe() == path + " is not a regular file");
        CHECK(d.files() == std::vector<std::string>{"x.json"});
    };
    REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
    refused();
    ::unlink(path.c_str());
    REQUIRE(::mkdir(path.c_str(), 0700) == 0);
    refused();
    ::rmdir(path.c_str());
    const socket_file socket(path);
    refused();
    ::unlink(path.c_str());
    for (const char* target : {"/dev/full", "/proc/self/status", "/nowhere", "."}) {  // what it leads to is as it was
        CAPTURE(target);
        REQUIRE(::symlink(target, path.c_str()) == 0);
        auto r = start(loop, path);
        REQUIRE(r);
        struct ::stat now {};
        CHECK((::lstat(path.c_str(), &now) == 0 && S_ISREG(now.st_mode)));
        CHECK(finish(loop, r->deregister()));
        CHECK(d.files().empty());
    }
    for (const char* other : {"/proc/self/x.json", "/proc/self/fd/x.json", "/dev/null/x.json"}) CHECK(start(loop, other).why().sys() != 0);
}

TEST_CASE("what has the name of the unfinished file is removed, and never written to or waited for") {
    prom::event_loop loop(on_fake_time());
    directory d;
    const std::string path = d.path + "/x.json", beside = path + "." + std::to_string(::getpid()) + ".tmp", other = d.path + "/other";
    const auto written = [&] {
        auto r = start(loop, path);
        REQUIRE(r);
        CHECK(finish(loop, r->deregister()));
        CHECK(d.files().empty());
    };
    REQUIRE(::mkfifo(beside.c_str(), 0600) == 0);
    written();
    {
        const socket_file socket(beside);
        written();
    }
    REQUIRE(::symlink("/dev/full", beside.c_str()) == 0);
    written();
    std::ofstream(other) << "another's";
    REQUIRE(::link(other.c_str(), beside.c_str()) == 0);
    REQUIRE(start(loop, path));
    std::stringstream text;
    text << std::ifstream(other).rdbuf();
    CHECK(text.str() == "another's");
    ::unlink(other.c_str());
    ::unlink(path.c_str());
    REQUIRE(::mkdir(beside.c_str(), 0700) == 0);
    const auto r = start(loop, path);
    REQUIRE(!r);
    CHECK(std::string_view(r.why().describe()).starts_with(beside));
    ::rmdir(beside.c_str());
}

TEST_CASE("every failure during the writing is an error, and leaves neither a file nor a descriptor") {
    prom::event_loop loop(on_fake_time());
    directory d;
    const int before = faults::open_descriptors();
    for (const char* call : {"open", "write", "fstat", "close", "rename"}) {
        CAPTURE(call);
        faults::fail(call, EIO);
        const auto r = start(loop, d.path + "/x.json");
        REQUIRE(!r);
        CHECK(r.why().sys() == EIO);
        CHECK(std::string_view(r.why().describe()).find(d.path) != std::string_view::npos);
        CHECK(faults::all().failed[call] == 1);
        CHECK(d.files().empty());
        CHECK(faults::open_descriptors() == before);
        faults::reset();
    }
    auto r = start(loop, d.path + "/x.json");
    for (const char* call : {"lstat", "unlink"}) {
        faults::fail(call, EACCES);
        CHECK(finish(loop, r->deregister()).why().sys() == EACCES);
    }
    CHECK(d.files().size() == 1);
    faults::all().interrupts = true;
    REQUIRE(start(loop, d.path + "/y.json"));
    CHECK(d.read("y.json").back() == '\n');
    faults::reset();
}
