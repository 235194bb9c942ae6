// needs-network
// needs-threads
// needs-exceptions
// libs: -lssl -lcrypto -lcrypt -lmbedtls -lmbedx509 -lmbedcrypto
//
// Each operator new of the companion headers failed in turn, and of asio's under them. What OpenSSL and mbedTLS allocate by
// themselves does not fail.
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

#if defined(__clang__)  // asio 1.22.1 does not see clang's coroutines by itself
#define ASIO_HAS_CO_AWAIT 1
#define ASIO_HAS_STD_COROUTINE 1
#endif
#include <asio.hpp>
#include <asio/experimental/deferred.hpp>
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"
#include "examples/asio_tokens.hpp"
#include "examples/promlint.hpp"
#include "support/stdexec.hpp"
#include "examples/stdexec_senders.hpp"
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

namespace {

/// What verbs update.
struct measured {
    prom::registry of;
    prom::histogram took{"took_of_a_long_name_seconds", "h", {.registry = &of}};
    prom::counter thrown{"thrown_of_a_long_name_total", "h", {.registry = &of}}, failed{"failed_of_a_long_name_total", "h", {.registry = &of}};
    prom::gauge running{"running_of_a_long_name", "h", {.registry = &of}};
    auto all() { return prom::time(took) | prom::count_exceptions(thrown) | prom::track_inprogress(running); }
    auto of_handlers() { return all() | prom::count_failures(failed); }
};

/// Runs an operation that begins with `begin(io, timer, to)`, which raises `to` when it is over: either that comes, or begin()
/// throws, or the future does.
template <class Begin>
void operation_of_asio(Begin begin) {
    measured m;
    leaves_nothing([&] {
        const auto before = m.took.count();
        int over = 0;
        {
            asio::io_context io;
            asio::steady_timer timer(io, asio::steady_timer::time_point::min());
            struct afterwards {
                const measured& m;
                ~afterwards() { undisturbed([&] { CHECK(m.running.value() == 0); }); }
            } const check{m};
            begin(m, io, timer, over);
        }
        CHECK((over == 1 || failing::done > failing::chosen));
        CHECK(m.took.count() <= before + 1);
        CHECK((over == 0 || m.took.count() == before + 1));
    });
}

}  // namespace

TEST_CASE("operations of asio that find no memory throw where they began or where they are awaited, and no gauge stays raised") {
    SUBCASE("a callback") {
        operation_of_asio([](measured& m, asio::io_context& io, asio::steady_timer& timer, int& over) {
            timer.async_wait(prom_asio::measured(m.of_handlers(), [&](std::error_code) { ++over; }));
            io.run();
        });
    }
    SUBCASE("a callback without a token") {
        operation_of_asio([](measured& m, asio::io_context& io, asio::steady_timer& timer, int& over) {
            timer.async_wait(m.of_handlers()(prom::completion([&](std::error_code) { ++over; })));
            io.run();
        });
    }
    SUBCASE("use_future") {
        operation_of_asio([](measured& m, asio::io_context& io, asio::steady_timer& timer, int& over) {
            auto f = timer.async_wait(prom_asio::measured(m.of_handlers(), asio::use_future));
            io.run();
            f.get();
            ++over;
        });
    }
    SUBCASE("deferred") {
        operation_of_asio([](measured& m, asio::io_context& io, asio::steady_timer& timer, int& over) {
            auto lazy = timer.async_wait(prom_asio::measured(m.of_handlers(), asio::experimental::deferred));
            std::move(lazy)([&](std::error_code) { ++over; });
            io.run();
        });
    }
    // asio's co_spawn ends the process when it finds no memory, measured or not, so what runs coroutines is undisturbed.
    SUBCASE("a measured awaitable") {
        operation_of_asio([](measured& m, asio::io_context& io, asio::steady_timer& timer, int& over) {
            const auto wait = [](asio::steady_timer& on) -> asio::awaitable<int> {
                co_await on.async_wait(asio::use_awaitable);
                co_return 7;
            };
            auto lazy = m.all()(wait)(timer);
            auto unawaited = m.all()(wait(timer));
            undisturbed([&] {
                auto f = asio::co_spawn(io, std::move(lazy), asio::use_future);
                CHECK(m.running.value() == 1);
                io.run();
                over += f.get() == 7;
            });
        });
    }
    SUBCASE("abandoned with its io_context") {
        measured m;
        leaves_nothing([&] {
            struct afterwards {
                const measured& m;
                ~afterwards() { undisturbed([&] { CHECK(m.running.value() == 0); }); }
            } const check{m};
            asio::io_context io;
            asio::steady_timer timer(io, asio::steady_timer::time_point::max());
            timer.async_wait(prom_asio::measured(m.of_handlers(), [](std::error_code) { FAIL("ran"); }));
            timer.async_wait(prom_asio::measured(m.of_handlers(), asio::detached));
            const auto wait = [](asio::steady_timer& on) -> asio::awaitable<void> { co_await on.async_wait(asio::use_awaitable); };
            auto lazy = m.all()(wait)(timer);
            undisturbed([&] {
                asio::co_spawn(io, std::move(lazy), asio::detached);
                io.poll();
                CHECK(m.running.value() == 3);
            });
        });
    }
}

namespace {

/// A sender whose operation allocates at each step: when it is made, connected, started, and asked for its value.
struct allocating {
    using sender_concept = stdexec::sender_tag;
    static std::string memory() { return std::string(100, 'x'); }
    std::string made = memory();

    template <class Self, class... Env>
    static consteval auto get_completion_signatures()
        -> stdexec::completion_signatures<stdexec::set_value_t(std::string), stdexec::set_error_t(std::exception_ptr)> { return {}; }
    template <class R>
    struct operation {
        R receiver;
        std::string made, connected = memory();
        void start() noexcept {
            try {
                std::string value = made + connected;
                stdexec::set_value(std::move(receiver), std::move(value));
            } catch (const std::bad_alloc&) {
                stdexec::set_error(std::move(receiver), std::current_exception());
            }
        }
    };
    template <class R>
    operation<R> connect(R receiver) && { return {std::move(receiver), std::move(made)}; }
    int get_env() const noexcept { return 0; }
};
/// One whose moves allocate.
struct heavy_to_move : allocating {
    heavy_to_move() = default;
    heavy_to_move(heavy_to_move&& other) : allocating{other.made} {}
};
struct noting_receiver {
    using receiver_concept = stdexec::receiver_tag;
    int* values;
    int* errors;
    std::string carried = allocating::memory();
    noting_receiver(int& v, int& e) : values(&v), errors(&e) {}
    noting_receiver(noting_receiver&& other) : values(other.values), errors(other.errors), carried(other.carried) {}
    void set_value(std::string&&) && noexcept { ++*values; }
    void set_error(std::exception_ptr&&) && noexcept { ++*errors; }
    void set_stopped() && noexcept {}
    int get_env() const noexcept { return 0; }
};

}  // namespace

TEST_CASE("senders that find no memory throw where they are made or connected, or complete with an error that is counted") {
    measured m;
    const auto runs = [&](auto make) {
        leaves_nothing([&] {
            const auto took = m.took.count();
            const double thrown = m.thrown.value();
            int values = 0, errors = 0;
            struct afterwards {
                const measured& m;
                ~afterwards() { undisturbed([&] { CHECK(m.running.value() == 0); }); }
            } const check{m};
            auto operation = stdexec::connect(make(), noting_receiver(values, errors));
            stdexec::start(operation);
            undisturbed([&] {
                CHECK(values + errors == 1);
                CHECK(m.took.count() == took + 1);
                CHECK(m.thrown.value() == thrown + errors);
            });
        });
    };
    runs([&] { return m.all()(allocating()); });
    runs([&] { return m.all()([] { return allocating(); })(); });
    runs([&] { return m.all()(heavy_to_move()); });
    runs([&] { return prom::count_failures(m.failed, m.all()(heavy_to_move()), [](const std::string& s) { return s.empty(); }); });
}
#endif
