// needs-network
// needs-threads
// needs-exceptions
// libs: -lssl -lcrypto -lcrypt -lmbedtls -lmbedx509 -lmbedcrypto
//
// Each operator new of the companion headers failed in turn. What OpenSSL and mbedTLS allocate by themselves does not fail.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TESTS_NO_ALLOCATIONS 1  // clang's has operators of its own that cannot be replaced
#endif
#endif
#ifdef TESTS_NO_ALLOCATIONS
#include <doctest/doctest.h>
TEST_CASE("memory that fails is not tested here") { MESSAGE("SKIPPED: clang's ThreadSanitizer has allocations of its own"); }
#else
#define PROMETHEUS_ASYNC_DETAIL_SYS ::failing
#include "support/failing_memory.hpp"

#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"
#include "examples/promlint.hpp"
#include "examples/tls_mbedtls.hpp"
#include "examples/web_config.hpp"
#include "support/certs.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <string>

namespace prom = prometheus_async;
using failing::each_allocation;

namespace {

const certs& files() {
    static const certs made;
    return made;
}
/// Runs it with each allocation failed in turn, after once without: nothing may stay allocated.
template <class Run>
void leaves_nothing(Run run) {
    for (int i = 0; i != 2; ++i) run();  // what is made once for the process
    const long living = failing::living;
    const long runs = each_allocation(run);
    CHECK(runs < 3000);
    CHECK(failing::living.load() == living);
}
template <class Part>
auto undisturbed(Part part) {
    struct pause {
        long chosen = failing::chosen.exchange(-1), done = failing::done.load();
        ~pause() {
            failing::done = done;
            failing::chosen = chosen;
        }
    } const now;
    return part();
}

/// Two sessions that talk to each other until neither goes on. Whether both have shaken hands.
bool shake_hands(prom::tls_session& a, prom::tls_session& b, std::string_view first_words = {}) {
    char octets[20000];
    prom::tls_session* const both[] = {&a, &b};
    if (!first_words.empty()) static_cast<void>(b.feed(first_words));
    bool done[2] = {};
    for (int turns = 0; turns != 50; ++turns)
        for (int i = 0; i != 2; ++i) {
            const prom::tls_status how = both[i]->handshake();
            if (how == prom::tls_status::ok) done[i] = true;
            const std::size_t n = both[i]->drain(octets).produced;
            if (n != 0) static_cast<void>(both[1 - i]->feed({octets, n}));
        }
    return done[0] && done[1];
}
/// Whether a session that has failed stays so, and says something.
void has_failed(prom::tls_session& s) {
    char octets[100] = {};
    CHECK(s.handshake() == prom::tls_status::failed);
    CHECK(s.read(octets).status == prom::tls_status::failed);
    CHECK(s.write(octets).status == prom::tls_status::failed);
    undisturbed([&] { CHECK_FALSE(s.last_error().empty()); });
}

/// Sessions that are opened, shake hands and fail while memory does, and are whole again after.
template <class Server, class Client>
void sessions_of(Server& server, Client& client, Client& other) {
    const auto at_server = server.hook();
    for (prom::tls_config at_client : {client.hook(), other.hook()})
        for (const char* host : {"localhost", "127.0.0.1", "a.host.of.a.long.name.example"}) {
            CAPTURE(host);
            leaves_nothing([&] {
                auto s = at_server.open(at_server.context, {});
                auto c = at_client.open(at_client.context, host);
                if (!s || !c) return;
                const bool good = shake_hands(*c, *s);
                CHECK(good == (host[0] != 'a' && at_client.context == client.hook().context));
                if (!good) has_failed(*c);
                const prom::tls_peer who = c->peer();
                CHECK(who.verified == good);
            });
        }
    leaves_nothing([&] {
        auto s = at_server.open(at_server.context, {});
        auto c = client.hook().open(client.hook().context, "localhost");
        if (!s || !c) return;
        CHECK_FALSE(shake_hands(*c, *s, "GET / HTTP/1.1\r\nHost: this-is-no-tls\r\n\r\n"));
        has_failed(*s);
    });
}

}  // namespace

TEST_CASE("a session of OpenSSL that finds no memory is not there, or fails and says so") {
    auto server = openssl_server::load(files().pem("server"), files().key("server")).value();
    auto client = openssl_client::load(files().pem("ca")).value(), other = openssl_client::load(files().pem("other-ca")).value();
    sessions_of(server, client, other);
}

TEST_CASE("a session of mbedTLS that finds no memory is not there, or fails and says so") {
    auto server = mbedtls_server::load(files().pem("server"), files().key("server")).value();
    auto client = mbedtls_client::load(files().pem("ca")).value(), other = mbedtls_client::load(files().pem("other-ca")).value();
    sessions_of(server, client, other);
}

TEST_CASE("a certificate that finds no memory is not loaded, and a reload keeps what is in use") {
    const auto loads = [](const char* library, auto load) {
        CAPTURE(library);
        leaves_nothing([&] {
            auto made = load(files().pem("server"), files().key("server"), files().pem("ca"));
            CHECK((made || made.why().describe()[0] != '\0'));
            auto missing = load(files().pem("server"), files().key("no-such-file"), "");
            CHECK_FALSE(missing);
        });
        auto kept = load(files().pem("server"), files().key("server"), "").value();
        const auto hook = kept.hook();
        leaves_nothing([&] {
            struct afterwards {
                const prom::tls_config& hook;
                ~afterwards() { undisturbed([&] { CHECK(hook.open(hook.context, {})); }); }
            } const check{hook};
            static_cast<void>(kept.reload());
        });
    };
    loads("OpenSSL", [](const std::string& pem, const std::string& key, const std::string& ca) { return openssl_server::load(pem, key, ca); });
    loads("mbedTLS", [](const std::string& pem, const std::string& key, const std::string& ca) { return mbedtls_server::load(pem, key, ca); });
}

namespace {

/// A web configuration file that is gone with this.
struct web_file {
    std::string path = "/tmp/prometheus_async_failing_" + std::to_string(::getpid()) + ".yml";
    explicit web_file(const std::string& users) { write(users); }
    web_file(const web_file&) = delete;
    ~web_file() { ::unlink(path.c_str()); }
    void write(const std::string& users) const {
        std::ofstream(path) << "tls_server_config:\n  cert_file: " << files().pem("server") << "\n  key_file: " << files().key("server")
                            << "\nbasic_auth_users:\n" << users;
    }
};
const std::string one_user = "  a_user_of_a_long_name: $2b$04$QOauhQNbBCuQDKes6eFzPeVj0cCigtIZ1NEwIggIAOiVqcS6cpIjG\n";  // "secret"
constexpr const char* right = "Basic YV91c2VyX29mX2FfbG9uZ19uYW1lOnNlY3JldA==";
constexpr const char* wrong = "Basic YV91c2VyX29mX2FfbG9uZ19uYW1lOnB1Ymxpcw==";

/// 1 or 0: let in or not; -1: no answer, as there was no memory for it.
int asked(const web_config& web, const char* credentials) {
    int got = -1;
    prom::event_loop loop;
    const auto ask = [](const web_config& of, prom::event_loop& on, std::string_view field, int& to) -> prom::task<void> {
        prom::authorization_request request;
        request.authorization = field;
        request.loop = &on;
        const prom::authorizer by = of.authorizer();
        to = co_await by.later(request, by.context);
    };
    loop.spawn(ask(web, loop, credentials, got));
    for (int i = 0; i != 40 && got < 0; ++i) loop.poll(0.005);
    return got;
}

}  // namespace

TEST_CASE("a web configuration that finds no memory is not loaded, accepts no user, keeps what it has, and works again after") {
    const web_file file(one_user);
    leaves_nothing([&] {
        auto web = web_config::load(file.path);
        CHECK((web || web.why().describe()[0] != '\0'));
    });
    leaves_nothing([&] {
        auto web = undisturbed([&] { return web_config::load(file.path).value(); });
        struct afterwards {
            const web_config& web;
            ~afterwards() {
                undisturbed([&] {
                    CHECK(asked(web, right) == 1);
                    CHECK(asked(web, wrong) == 0);
                });
            }
        } const check{web};
        const int kept_out = asked(web, wrong), let_in = asked(web, right);
        CHECK(kept_out < 1);
        CHECK((let_in != 0 || failing::done > failing::chosen));
        static_cast<void>(web.reload());
    });
}

TEST_CASE("a linter and a difference of pages that find no memory throw, and leave nothing behind") {
    const std::string page = "# HELP a_of_a_long_name A metric.\n# TYPE a_of_a_long_name counter\na_of_a_long_name{aLabel=\"x\"} 1\n"
                             "b_milliseconds{x=\"a value that is longer than a string holds\"} 2\n";
    leaves_nothing([&] {
        const auto found = prom_lint::lint_page(page), refused = prom_lint::lint_page("a{b=\"\\z\"} 1\n");
        const std::string changed = prom_lint::page_diff(page, page + "c 1\n");
        CHECK(found.size() > 2);
        CHECK(refused.size() == 1);
        CHECK_FALSE(changed.empty());
    });
    leaves_nothing([&] {
        prom::registry of;
        const prom::counter c{"c_of_a_long_name_milliseconds", "h", {.registry = &of}};
        const auto found = prom_lint::lint(of);
        CHECK_FALSE(found.empty());
    });
}
#endif
