// needs-network
// needs-threads
// libs: -lssl -lcrypto -lcrypt
//
// The web configuration file of examples/web_config.hpp. crypt_r is replaced by one that can be made to wait, and counts.
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"
#include "examples/web_config.hpp"
#include "support/certs.hpp"
#include "support/served.hpp"

#include <semaphore.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <mutex>
#include <thread>

namespace {
struct hashing {
    std::atomic<int> calls{0}, entered{0};
    std::atomic<bool> waits{false}, missing{false};
    sem_t go;
    std::string setting;               // the last one
    std::vector<std::string> phrases;  // all; read them when the worker has answered
    hashing() { ::sem_init(&go, 0, 0); }
} hashes;
}  // namespace

extern "C" __attribute__((visibility("default"))) char* crypt_r(const char* phrase, const char* setting, ::crypt_data* data) noexcept {
    ++hashes.entered;
    if (hashes.waits) while (::sem_wait(&hashes.go) != 0) {}
    if (hashes.missing) return nullptr;
    hashes.setting = setting;
    hashes.phrases.push_back(phrase);
    ++hashes.calls;
    return ::crypt_rn(phrase, setting, data, sizeof *data);
}

namespace {

// Of "secret", "secret" and "other", at cost 4 and 10.
const std::string cheap = "$2b$04$QOauhQNbBCuQDKes6eFzPeVj0cCigtIZ1NEwIggIAOiVqcS6cpIjG";
const std::string sample = "$2y$10$QOauhQNbBCuQDKes6eFzPeyPuNvFcakVHA4BKvO2N5bbdl8u8T/oK";
const std::string other = "$2a$04$QOauhQNbBCuQDKes6eFzPeHizAQBqCqpmnnITdj5DmdkvJTJL1R2C";

struct file {
    std::string path;
    explicit file(const std::string& text) {
        char name[] = "/tmp/prometheus_async_web.XXXXXX";
        const int fd = ::mkstemp(name);
        REQUIRE(fd >= 0);
        ::close(fd);
        path = name;
        write(text);
    }
    file(const file&) = delete;
    ~file() { ::unlink(path.c_str()); }
    void write(const std::string& text) const {  // by another file, as operators' tools do
        const std::string fresh = path + ".new";
        std::FILE* const f = std::fopen(fresh.c_str(), "w");
        REQUIRE(f);
        std::fwrite(text.data(), 1, text.size(), f);
        std::fclose(f);
        REQUIRE(std::rename(fresh.c_str(), path.c_str()) == 0);
    }
};

/// What is wrong with a file of this text, without its name; "" when it is valid.
std::string fault_of(std::string_view text) {
    const auto got = web_config_detail::reader(text, "/etc/web.yml").read();
    return got ? "" : std::string(got.why().describe());
}
web_config_detail::settings read(std::string_view text) {
    auto got = web_config_detail::reader(text, "/etc/web.yml").read();
    if (!got) FAIL(got.why().describe());
    return std::move(*got);
}

std::string basic(std::string_view pair) {
    std::string out(pair.size() / 3 * 4 + 5, '\0');
    const int n = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()), reinterpret_cast<const unsigned char*>(pair.data()),
                                  static_cast<int>(pair.size()));
    out.resize(static_cast<std::size_t>(n));
    return "Authorization: Basic " + out + "\r\n";
}
std::string users(const std::string& list) { return "basic_auth_users:\n" + list; }

const prom::route open_too[] = {{.path = "/metrics"}, {.path = "/open", .text = "yes", .open = true}};

}  // namespace

TEST_CASE("a file as the toolkit's manual shows it is valid") {
    const auto s = read("# TLS and basic authentication.\r\n"
                        "---\n"
                        "tls_server_config:\n"
                        "  cert_file: server.crt  # beside this file\n"
                        "\n"
                        "  key_file: \"/keys/ser\\\"ver\\\\.key\"\n"
                        "  client_auth_type: RequireAndVerifyClientCert\n"
                        "  client_ca_file: 'it''s ca.pem'\n"
                        "  min_version: TLS13\n"
                        "  max_version: TLS13\n"
                        "  prefer_server_cipher_suites: true\n"
                        "http_server_config:\n"
                        "    http2: false\n"
                        "    headers:\n"
                        "        X-Content-Type-Options: nosniff\n"
                        "        # more\n"
                        "basic_auth_users:\n"
                        "  alice: " + cheap + "\n"
                        "  \"bob # 2\" : '" + sample + "'\n");
    CHECK(s.tls);
    CHECK(s.certificate == "/etc/server.crt");
    CHECK(s.key == "/keys/ser\"ver\\.key");
    CHECK(s.client_ca == "/etc/it's ca.pem");
    CHECK(s.min_version == TLS1_3_VERSION);
    CHECK(s.verifies_clients);
    REQUIRE(s.users.size() == 2);
    CHECK(s.users[0].name == "alice");
    CHECK(s.users[0].hash == cheap);
    CHECK(s.users[1].name == "bob # 2");
    CHECK(s.users[1].hash == sample);

    const auto bare = read("\xEF\xBB\xBF" "basic_auth_users: # nobody else\n a: " + other);
    CHECK_FALSE(bare.tls);
    CHECK(bare.min_version == TLS1_2_VERSION);
    CHECK(bare.users.size() == 1);
    CHECK(read("  basic_auth_users:\n    a: " + other + "\n  http_server_config:\n    http2: true\n").users.size() == 1);
}

TEST_CASE("what is not supported is refused by its line and name") {
    const std::string tls = "tls_server_config:\n  cert_file: a\n  key_file: b\n";
    const struct { std::string text, why; } all[] = {
        {tls + "rate_limit:\n  interval: 1s\n", "web.yml:4: rate_limit is not supported: see server_limits"},
        {tls + "  cert: x\n", "web.yml:4: tls_server_config.cert is not supported: name a file in cert_file"},
        {tls + "  key: x\n", "web.yml:4: tls_server_config.key is not supported: name a file in key_file"},
        {tls + "  client_ca: x\n", "web.yml:4: tls_server_config.client_ca is not supported: name a file in client_ca_file"},
        {tls + "  client_allowed_sans:\n  - x\n", "web.yml:4: tls_server_config.client_allowed_sans is not supported: an authorizer can ask for tls_peer::subject"},
        {tls + "  cipher_suites:\n  - x\n", "web.yml:4: tls_server_config.cipher_suites is not supported: OpenSSL's own choice is used"},
        {tls + "  curve_preferences: [X25519]\n", "web.yml:4: YAML that is not supported: what begins with ["},
        {tls + "  curve_preferences:\n", "web.yml:4: tls_server_config.curve_preferences is not supported: OpenSSL's own choice is used"},
        {tls + "  client_auth_type: RequestClientCert\n", "web.yml:4: tls_server_config.client_auth_type: it must be NoClientCert or RequireAndVerifyClientCert"},
        {tls + "  min_version: TLS10\n", "web.yml:4: tls_server_config.min_version: it must be TLS12 or TLS13"},
        {tls + "  max_version: TLS12\n", "web.yml:4: tls_server_config.max_version: it must be TLS13"},
        {tls + "http_server_config:\n  headers:\n    X-Frame-Options: deny\n", "web.yml:6: http_server_config.headers.X-Frame-Options is not supported"},
        {tls + "http_server_config:\n  http2: maybe\n", "web.yml:5: http_server_config.http2: it must be true or false"},
        {tls + "  colour: red\n", "web.yml:4: unknown: tls_server_config.colour"},
        {tls + "colour: red\n", "web.yml:4: unknown: colour"},
        {tls + "  cert_file: c\n", "web.yml:4: tls_server_config.cert_file is given twice"},
        {tls + "tls_server_config:\n  cert_file: c\n", "web.yml:4: tls_server_config is given twice"},
        {tls + "  client_ca_file:\n", "web.yml:4: tls_server_config.client_ca_file is empty"},
        {tls + "  client_ca_file: c\n", "web.yml:1: tls_server_config: client_ca_file and client_auth_type: RequireAndVerifyClientCert need each other"},
        {tls + "  client_auth_type: RequireAndVerifyClientCert\n", "web.yml:1: tls_server_config: client_ca_file and client_auth_type: RequireAndVerifyClientCert need each other"},
        {"tls_server_config:\n  cert_file: a\n", "web.yml:1: tls_server_config needs cert_file and key_file"},
        {"tls_server_config: on\n", "web.yml:1: tls_server_config: a mapping is expected, one indented key: value on each line"},
        {"tls_server_config: {}\n", "web.yml:1: YAML that is not supported: what begins with {"},
        {"tls_server_config:\n", "web.yml:1: tls_server_config has no value"},
        {"tls_server_config:\nbasic_auth_users:\n", "web.yml:2: tls_server_config has no value"},
        {"", "web.yml:0: it has neither tls_server_config nor basic_auth_users"},
        {"# nothing\n---\n", "web.yml:2: it has neither tls_server_config nor basic_auth_users"},
        {users("  a: secret\n"), "web.yml:2: basic_auth_users.a: not a bcrypt hash ($2a$, $2b$ or $2y$, 60 characters)"},
        {users("  a:\n"), "web.yml:2: basic_auth_users.a: no hash"},
        {users("  a: " + cheap + "x\n"), "web.yml:2: basic_auth_users.a: not a bcrypt hash ($2a$, $2b$ or $2y$, 60 characters)"},
        {users("  a: $2x$" + cheap.substr(4)), "web.yml:2: basic_auth_users.a: not a bcrypt hash ($2a$, $2b$ or $2y$, 60 characters)"},
        {users("  a: $2b$03" + cheap.substr(6)), "web.yml:2: basic_auth_users.a: the cost must be from 4 to 16"},
        {users("  a: $2b$17" + cheap.substr(6)), "web.yml:2: basic_auth_users.a: the cost must be from 4 to 16"},
        {users("  a: " + cheap + "\n  a: " + other), "web.yml:3: basic_auth_users.a is given twice"},
        {users("  \"a:b\": " + cheap), "web.yml:2: basic_auth_users: a name is empty, longer than 128 octets, or has a colon"},
        {users("  '': " + cheap), "web.yml:2: basic_auth_users: a name is empty, longer than 128 octets, or has a colon"},
        {users("\ta: " + cheap), "web.yml:2: a tab in the indentation: YAML needs spaces"},
        {users("  a: " + cheap + "\n   b: " + cheap), "web.yml:3: indented under basic_auth_users.a, which already has a value"},
        {users("  a: " + cheap + "\n b: " + cheap), "web.yml:3: the indentation equals that of no line above"},
        {users("  - a\n"), "web.yml:2: a list: no supported option has one"},
        {users("  a\n"), "web.yml:2: not a line of the form key: value"},
        {users("  a:b\n"), "web.yml:2: not a line of the form key: value"},
        {users("  a: b: c\n"), "web.yml:2: a second key on one line: quote a value that has a colon and a space"},
        {users("  a: \"" + cheap + "\n"), "web.yml:2: a quote is not closed on its line"},
        {users("  a: '" + cheap + "' x\n"), "web.yml:2: there is more text after the value of a"},
        {users("  a: \"\\x41\"\n"), "web.yml:2: an escape that is not supported: only \\\" and \\\\ are"},
        {users("  a: null\n"), "web.yml:2: null is not a value"},
        {users("  a: |\n    x\n"), "web.yml:2: YAML that is not supported: what begins with |"},
        {users("  a: &x " + cheap), "web.yml:2: YAML that is not supported: what begins with &"},
        {users("  a: *x\n"), "web.yml:2: YAML that is not supported: what begins with *"},
        {users("  a: !!str x\n"), "web.yml:2: YAML that is not supported: what begins with !"},
        {users("  ? a\n"), "web.yml:2: YAML that is not supported: what begins with ?"},
        {users("  a: " + cheap + "\n---\n"), "web.yml:3: only one document is supported"},
        {users("  a: x\1y\n"), "web.yml:2: a control character"},
        {"%YAML 1.2\n", "web.yml:1: YAML that is not supported: what begins with %"},
    };
    for (const auto& one : all) {
        CAPTURE(one.text);
        CHECK(fault_of(one.text) == one.why);
    }
    CHECK(fault_of(users("  a: hunter2hunter2\n")).find("hunter2") == std::string::npos);
}

TEST_CASE("a file that is cut short or changed anywhere is taken or refused, and never more") {
    const std::string good = "tls_server_config:\n  cert_file: \"a\"\n  key_file: 'b'\nhttp_server_config:\n  headers:\n"
                             "    X-Content-Type-Options: nosniff\nbasic_auth_users:\n  a: " + cheap + "\n";
    CHECK(fault_of(good).empty());
    int taken = 0;
    for (std::size_t n = 0; n != good.size(); ++n) {
        taken += fault_of(good.substr(0, n)).empty();
        for (const char c : {' ', '\n', '\t', ':', '#', '"', '\'', '-', '\\', '\0', '\xff'}) {
            std::string changed = good;
            changed[n] = c;
            taken += fault_of(changed).empty();
            taken += fault_of(changed.insert(n, 1, c)).empty();
        }
    }
    CHECK(taken > 0);
}

TEST_CASE("a file that is not there, or whose certificate is not, says so") {
    const auto none = web_config::load("/nowhere/web.yml");
    REQUIRE_FALSE(bool(none));
    CHECK(std::string(none.why().describe()) == "cannot open /nowhere/web.yml: No such file or directory");
    const file f("tls_server_config:\n  cert_file: nowhere.pem\n  key_file: nowhere.key\n");
    const auto missing = web_config::load(f.path);
    REQUIRE_FALSE(bool(missing));
    CHECK(std::string(missing.why().describe()).find("cannot load certificate /tmp/nowhere.pem") != std::string::npos);
}

TEST_CASE("what is not a regular file is refused, and no thread waits for the writer of a FIFO") {
    const auto refused = [](const std::string& path, const std::string& named) {
        const auto made = web_config::load(path);
        REQUIRE_FALSE(bool(made));
        REQUIRE(std::string(made.why().describe()).find(named + " is not a regular file") != std::string::npos);
    };
    const auto with = [](const std::string& part) { return "tls_server_config:\n  cert_file: " + part + "\n  key_file: " + part + "\n"; };
    refused("/tmp", "/tmp");
    refused("/dev/null", "/dev/null");
    refused(file(with("/dev/null")).path, "/dev/null");
    const file pipe("");
    ::unlink(pipe.path.c_str());
    REQUIRE(::mkfifo(pipe.path.c_str(), 0600) == 0);
    refused(pipe.path, pipe.path);
    refused(file(with(pipe.path)).path, pipe.path);
}

TEST_CASE("users with the right password get in, and are then known without hashing again") {
    const file f(users("  alice: " + cheap + "\n  bob: " + sample + "\n  eve: " + other + "\n"));
    const auto web = web_config::load(f.path).value();
    CHECK_FALSE(bool(web.tls()));
    served at({.authorizer = web.authorizer(), .routes = open_too});
    caller who(at);
    const auto status = [&](const std::string& fields) { return who.ask("/metrics", fields), who.status(); };
    for (const char* pair : {"alice:secret", "bob:secret", "eve:other"}) {
        CAPTURE(pair);
        int before = hashes.calls;
        CHECK(status(basic(pair)) == 200);
        CHECK(hashes.calls - before == 1);
        before = hashes.calls;
        CHECK(status(basic(pair)) == 200);
        CHECK(hashes.calls - before == 0);
        CHECK(status(basic(std::string(pair) + "x")) == 401);
        CHECK(hashes.calls - before == 1);
    }
    int before = hashes.calls;
    hashes.setting.clear();
    CHECK(status(basic("mallory:secret")) == 401);  // of no user: it costs what the dearest does
    CHECK(hashes.calls - before == 1);
    CHECK(hashes.setting == sample);
    before = hashes.calls;
    at.pass(2);  // 401s of another second
    for (const std::string& fields : {std::string(), std::string("Authorization: Bearer secret\r\n"), basic("alice"), basic(std::string("alice:secret\0", 13)),
                                      basic(std::string("alice:secret\0x", 14)), basic("alice:" + std::string(512, 'x')),
                                      basic(std::string(129, 'a') + ":secret"), std::string("Authorization: Basic YWxpY2U6c2VjcmV0=\r\n"),
                                      std::string("Authorization: Basic YWxpY2U6 c2VjcmV0\r\n"), std::string("Authorization: Basic\r\n")}) {
        CAPTURE(fields);
        CHECK(status(fields) == 401);
    }
    CHECK(hashes.calls == before);
    at.pass(2);
    CHECK(status("Authorization: bASIC   YWxpY2U6c2VjcmV0\r\n") == 200);
    CHECK(status(basic("alice:" + std::string(511, 'x'))) == 401);
}

TEST_CASE("who was let in is still known when the file is read again, unless the password is another") {
    const file f(users("  alice: " + cheap + "\n  eve: " + other + "\n"));
    auto web = web_config::load(f.path).value();
    served at({.authorizer = web.authorizer(), .routes = open_too});
    caller who(at);
    const auto hashed = [&](const char* pair) {
        const int before = hashes.calls;
        who.ask("/metrics", basic(pair));
        CHECK(who.status() == 200);
        return hashes.calls - before;
    };
    CHECK(hashed("alice:secret") == 1);
    CHECK(hashed("eve:other") == 1);
    f.write(users("  eve: " + sample + "\n  alice: " + cheap + "\n"));
    REQUIRE(web.reload());
    CHECK(hashed("alice:secret") == 0);
    CHECK(hashed("eve:secret") == 1);
    std::string many;
    for (int i = 0; i != 1001; ++i) many += "  u" + std::to_string(i) + ": " + cheap + "\n";
    f.write(users(many));
    CHECK(std::string(web.reload().why().describe()).find("more than 1000") != std::string::npos);
}

TEST_CASE("while a password is hashed others are served, at most 32 wait, and who waited with the same is not hashed again") {
    const file f(users("  alice: " + cheap + "\n"));
    const auto web = web_config::load(f.path).value();
    served at({.authorizer = web.authorizer(), .routes = open_too});
    hashes.waits = true;
    const int before = hashes.calls, entered = hashes.entered;
    std::vector<std::unique_ptr<caller>> many;
    const auto ask = [&] {
        many.push_back(std::make_unique<caller>(at));
        many.back()->send("GET /metrics HTTP/1.1\r\nHost: x\r\n" + basic("alice:secret") + "\r\n");
    };
    ask();
    REQUIRE(at.until([&] { return hashes.entered - entered == 1; }));  // the worker is at it
    caller other_one(at);
    other_one.ask("/open");
    CHECK(other_one.status() == 200);
    for (int i = 0; i != 32; ++i) ask();
    turns(at);
    other_one.ask("/metrics", basic("alice:secret"));
    CHECK(other_one.status() == 503);  // of an address whose turn it will be 33 times
    CHECK(other_one.got.find("Retry-After: 1\r\n") != std::string::npos);
    for (const auto& one : many) CHECK_FALSE((one->take(), one->got.size()));
    hashes.waits = false;
    ::sem_post(&hashes.go);
    for (const auto& one : many) CHECK(one->hears("200 OK"));
    CHECK(hashes.calls - before == 1);
    other_one.ask("/metrics", basic("alice:secret"));
    CHECK(other_one.status() == 200);
}

TEST_CASE("addresses take turns for the hash, and the one that has most places gives its newest away when all are taken") {
    const file f(users("  alice: " + cheap + "\n"));
    const auto web = web_config::load(f.path).value();
    served at({.authorizer = web.authorizer(), .routes = open_too});
    hashes.waits = true;
    hashes.phrases.clear();
    const int before = hashes.calls, entered = hashes.entered;
    std::vector<std::unique_ptr<caller>> guesses;
    const auto ask = [&](caller& who, const std::string& pair) { who.send("GET /metrics HTTP/1.1\r\nHost: x\r\n" + basic(pair) + "\r\n"); };
    const auto guess = [&](unsigned i) {
        guesses.push_back(std::make_unique<caller>(at, 0, 2));
        ask(*guesses.back(), "alice:guess" + std::to_string(i));
        turns(at);
    };
    guess(0);
    REQUIRE(at.until([&] { return hashes.entered - entered == 1; }));
    for (unsigned i = 1; i != 33; ++i) guess(i);
    caller alice(at, 0, 3), third(at, 0, 4), again(at, 0, 4);
    ask(alice, "alice:secret");
    CHECK(guesses[32]->hears("Retry-After: 1\r\n"));
    CHECK(guesses[32]->status() == 503);
    ask(third, "alice:no");
    CHECK(guesses[31]->hears(" 503 "));
    ask(again, "alice:never");
    CHECK(guesses[30]->hears(" 503 "));
    for (int i = 0; i != 30; ++i) CHECK_FALSE((guesses[static_cast<std::size_t>(i)]->take(), guesses[static_cast<std::size_t>(i)]->got.size()));

    hashes.waits = false;
    ::sem_post(&hashes.go);
    CHECK(alice.hears("200 OK"));
    REQUIRE(at.until([&] { return hashes.calls - before == 33; }));
    CHECK(std::vector<std::string>(hashes.phrases.begin(), hashes.phrases.begin() + 6) ==
          std::vector<std::string>{"guess0", "guess1", "secret", "no", "guess2", "never"});
    CHECK(hashes.phrases.back() == "guess29");
    for (int i = 0; i != 6; ++i) at.pass(1);  // most of the 401s wait
    CHECK(third.hears(" 401 "));
    CHECK(guesses[29]->hears(" 401 "));
}

TEST_CASE("connections and servers may end while their password is hashed, or waits for that") {
    const file f(users("  alice: " + cheap + "\n"));
    const auto web = web_config::load(f.path).value();
    hashes.waits = true;
    const int entered = hashes.entered;
    {
        served at({.authorizer = web.authorizer()});
        caller first(at), second(at);
        first.send("GET /metrics HTTP/1.1\r\nHost: x\r\n" + basic("alice:secret") + "\r\n");
        REQUIRE(at.until([&] { return hashes.entered - entered == 1; }));
        second.send("GET /metrics HTTP/1.1\r\nHost: x\r\n" + basic("alice:secret") + "\r\n");
        for (int i = 0; i != 20; ++i) at.loop.poll(0);
        at.pass(61);
        CHECK(first.ends());
        CHECK(second.ends());
        CHECK(first.got.empty());
        caller third(at);
        third.send("GET /metrics HTTP/1.1\r\nHost: x\r\n" + basic("alice:secret") + "\r\n");
        for (int i = 0; i != 20; ++i) at.loop.poll(0);
    }
    hashes.waits = false;
    ::sem_post(&hashes.go);
    served again({.authorizer = web.authorizer()});
    caller who(again);
    who.ask("/metrics", basic("alice:secret"));
    CHECK(who.status() == 200);
}

TEST_CASE("for who has left nothing is hashed, over TLS too") {
    static const certs made;
    const auto client = openssl_client::load(made.pem("ca")).value();
    const std::string tls = "tls_server_config:\n  cert_file: " + made.pem("server") + "\n  key_file: " + made.key("server") + "\n";
    for (bool secured : {false, true}) {
        const file f((secured ? tls : "") + users("  alice: " + cheap + "\n"));
        const auto web = web_config::load(f.path).value();
        served at({.tls = web.tls(), .authorizer = web.authorizer(), .routes = open_too});
        caller first(at), second(at), third(at);
        for (caller* one : {&first, &second, &third}) if (secured) REQUIRE(one->handshake(client.hook()));
        hashes.waits = true;
        const int before = hashes.calls, entered = hashes.entered;
        const auto ask = [&](caller& who, const char* pair) { who.send("GET /metrics HTTP/1.1\r\nHost: x\r\n" + basic(pair) + "\r\n"); };
        ask(first, "alice:wrong");
        REQUIRE(at.until([&] { return hashes.entered - entered == 1; }));
        ask(second, "alice:other");
        for (int i = 0; i != 20; ++i) at.loop.poll(0);
        second.hang_up();
        third.ask("/open");
        ask(third, "alice:secret");
        for (int i = 0; i != 20; ++i) at.loop.poll(0);
        hashes.waits = false;
        ::sem_post(&hashes.go);
        third.got.clear();
        CHECK(third.hears("200 OK"));
        CHECK(hashes.calls - before == 2);
    }
}

TEST_CASE("a file is read again, and one that is bad changes nothing") {
    const file f(users("  alice: " + cheap + "\n  bob: " + cheap + "\n"));
    auto web = web_config::load(f.path).value();
    served at({.authorizer = web.authorizer()});
    caller who(at);
    const auto status = [&](const char* pair) { return who.ask("/metrics", basic(pair)), who.status(); };
    CHECK(status("alice:secret") == 200);
    f.write(users("  alice: " + other + "\n"));
    CHECK(status("alice:secret") == 200);
    REQUIRE(web.reload());
    CHECK(status("alice:secret") == 401);
    CHECK(status("alice:other") == 200);
    CHECK(status("bob:secret") == 401);
    for (const std::string& bad : {std::string(), users("  alice: x\n"), std::string("tls_server_config:\n  cert_file: a\n  key_file: b\n"),
                                   users("  alice: " + other + "\ntls_server_config:\n  cert_file: a\n  key_file: b\n")}) {
        CAPTURE(bad);
        f.write(bad);
        CHECK_FALSE(bool(web.reload()));
        CHECK(status("alice:other") == 200);
    }
    CHECK(std::string(web.reload().why().describe()).find("was added or removed") != std::string::npos);
}

struct following {
    static double& now() {
        static double seconds = 5;
        return seconds;
    }
    web_config web;
    std::mutex lock{};
    std::vector<std::string> told{};
    std::vector<std::thread::id> on{};
    bool throws = false;

    explicit following(const file& f) : web(web_config::load(f.path).value()) {
        prom::set_clock({[] { return now(); }, [] { return now() + 1.7e9; }});
        web.follow([](const prom::event& e, void* self) {
            auto& to = *static_cast<following*>(self);
            const std::lock_guard hold(to.lock);
            CHECK(e.kind == prom::event_kind::certificate_rejected);
            to.told.push_back(e.why.describe());
            to.on.push_back(std::this_thread::get_id());
#if PROMETHEUS_ASYNC_EXCEPTIONS
            if (to.throws) throw 1;
#endif
        }, this);
    }
    following(const following&) = delete;
    ~following() { prom::set_clock(prom::system_clock()); }
    std::size_t size() {
        const std::lock_guard hold(lock);
        return told.size();
    }
};

TEST_CASE("a followed file is looked at once a second at most, by the worker, and a bad one is told of once") {
    const file f(users("  alice: " + cheap + "\n"));
    following by(f);
    served at({.authorizer = by.web.authorizer()});
    caller who(at);
    const auto status = [&](const char* pair) { return who.ask("/metrics", basic(pair)), who.status(); };
    CHECK(status("alice:secret") == 200);
    f.write(users("  alice: " + other + "\n"));
    CHECK(status("alice:other") == 401);
    by.now() += 1.5;
    CHECK(status("alice:other") == 200);  // it waited for the worker, which has looked first
    f.write("tls_server_config:\n");
    for (int i = 0; i != 3; ++i) {
        by.now() += 1.5;
        CHECK(status("alice:wrong") == 401);
    }
    CHECK(status("alice:other") == 200);
    REQUIRE(by.size() == 1);
    CHECK(by.told[0].find(":1: tls_server_config has no value") != std::string::npos);
    CHECK(by.on[0] != std::this_thread::get_id());
}

TEST_CASE("a followed file that names a certificate which is not there is told of once, and taken when that is there") {
    static const certs made;
    const std::string pem = made.dir + "/later.pem";
    const auto settings = [](const std::string& certificate, const std::string& key, const std::string& hash) {
        return "tls_server_config:\n  cert_file: " + certificate + "\n  key_file: " + key + "\n" + users("  alice: " + hash + "\n");
    };
    const auto put = [&](const std::string& from) {
        REQUIRE(std::filesystem::copy_file(from, pem + ".new"));
        std::filesystem::rename(pem + ".new", pem);
    };
    const file f(settings(made.pem("server"), made.key("server"), cheap));
    following by(f);
    served at({.authorizer = by.web.authorizer()});
    caller who(at);
    const auto look = [&](const char* pair) {  // what the worker compares waits until it has looked
        by.now() += 1.5;
        return who.ask("/metrics", basic(pair)), who.status();
    };
    f.write(settings(pem, made.key("server"), other));
    for (int i = 0; i != 3; ++i) CHECK(look("alice:other") == 401);
    CHECK(by.size() == 1);
    put(made.pem("wronghost"));  // with a key that is not its own
    for (int i = 0; i != 3; ++i) CHECK(look("alice:other") == 401);
    CHECK(by.size() == 2);
    put(made.pem("server"));
    CHECK(look("alice:other") == 200);
    CHECK(by.size() == 2);
}

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("what the function throws that is told of a bad file ends nothing") {
    const file f(users("  alice: " + cheap + "\n"));
    following by(f);
    by.throws = true;
    served at({.authorizer = by.web.authorizer()});
    caller who(at);
    const auto status = [&](const char* pair) { return who.ask("/metrics", basic(pair)), who.status(); };
    for (std::size_t told = 1; told != 3; ++told) {
        f.write("bad: " + std::to_string(told) + "\n");
        by.now() += 1.5;
        CHECK(status("alice:wrong") == 401);
        CHECK(by.size() == told);
        CHECK(status("alice:secret") == 200);
    }
    f.write(users("  alice: " + other + "\n"));
    by.now() += 1.5;
    CHECK(status("alice:other") == 200);
    CHECK(by.size() == 2);
}
#endif

TEST_CASE("a libcrypt without bcrypt is refused by name") {
    const file f(users("  alice: " + cheap + "\n"));
    hashes.missing = true;
    const auto web = web_config::load(f.path);
    hashes.missing = false;
    REQUIRE_FALSE(bool(web));
    CHECK(web.why().code() == prom::errc::unsupported);
    CHECK(std::string(web.why().describe()).find(": basic_auth_users: this system's libcrypt has no bcrypt") != std::string::npos);
}

TEST_CASE("TLS as the file says, with a certificate that is renewed, and TLS 1.3 alone") {
    static const certs made;
    const file f("tls_server_config:\n  cert_file: " + made.pem("server") + "\n  key_file: " + made.key("server") + "\n");
    auto web = web_config::load(f.path).value();
    CHECK_FALSE(bool(web.authorizer()));
    served at({.tls = web.tls()});
    const auto client = openssl_client::load(made.pem("ca")).value();
    {
        caller who(at);
        REQUIRE(who.handshake(client.hook()));
        who.ask("/metrics");
        CHECK(who.status() == 200);
    }
    f.write("tls_server_config:\n  cert_file: " + made.pem("wronghost") + "\n  key_file: " + made.key("wronghost") + "\n");
    REQUIRE(web.reload());
    caller who(at);
    CHECK_FALSE(who.handshake(client.hook()));
    f.write("tls_server_config:\n  cert_file: " + made.pem("server") + "\n  key_file: " + made.key("server") +
            "\n  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: " + made.pem("ca") + "\n");
    REQUIRE(web.reload());
    const auto known = openssl_client::load(made.pem("ca"), made.pem("client"), made.key("client")).value();
    caller third(at), fourth(at);
    REQUIRE(third.handshake(known.hook()));
    third.ask("/metrics");
    CHECK(third.status() == 200);
    fourth.handshake(client.hook());
    CHECK(fourth.ends());
}

TEST_CASE("a renewed certificate of a followed file is that of the connections after the worker has read it") {
    static const certs made;
    const auto copy = [](const std::string& from, const std::string& to) {
        const std::string fresh = to + ".new";
        REQUIRE(std::filesystem::copy_file(from, fresh));
        std::filesystem::rename(fresh, to);
    };
    const std::string pem = made.dir + "/now.pem", key = made.dir + "/now.key";
    copy(made.pem("server"), pem);
    copy(made.key("server"), key);
    const file f("tls_server_config:\n  cert_file: " + pem + "\n  key_file: " + key + "\n" + users("  alice: " + cheap + "\n"));
    following by(f);
    served at({.tls = by.web.tls(), .authorizer = by.web.authorizer()});
    const auto client = openssl_client::load(made.pem("ca")).value();
    caller before(at), after(at), last(at);
    REQUIRE(before.handshake(client.hook()));
    before.ask("/metrics", basic("alice:secret"));  // the worker has looked, and then hashed: it does not look again during what follows
    CHECK(before.status() == 200);
    copy(made.pem("wronghost"), pem);
    copy(made.key("wronghost"), key);
    by.now() += 1.5;
    before.ask("/metrics", basic("alice:wrong"));  // it has looked again, and hashed
    CHECK(before.status() == 401);
    CHECK_FALSE(after.handshake(client.hook()));
    CHECK(by.size() == 0);

    copy(made.pem("server"), pem);  // with a key that is not its own
    by.now() += 1.5;
    before.ask("/metrics", basic("alice:wrong"));
    CHECK(before.status() == 401);
    CHECK(by.size() == 1);
    CHECK_FALSE(last.handshake(client.hook()));
}
